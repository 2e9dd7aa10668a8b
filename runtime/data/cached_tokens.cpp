#include "runtime/data/cached_tokens.h"

#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <optional>
#include <set>
#include <utility>

#include "base/error.h"
#include "base/file_descriptor.h"
#include "base/mapped_file.h"
#include "runtime/data/cache_folder.h"
#include "runtime/data/file_errors.h"

namespace zerostep {
namespace {

std::vector<FileStamp> stamps_of(const std::vector<std::string>& files) {
  std::vector<FileStamp> stamps;
  stamps.reserve(files.size());
  for (const std::string& file : files) stamps.push_back(stamp_of(file));
  return stamps;
}

std::string stamp_hash(const std::vector<FileStamp>& stamps, const TokensRequest& request) {
  ContentHash hash;
  request.add_rules(hash);
  for (const FileStamp& stamp : stamps) add_stamp(hash, stamp);
  return hash.hex();
}

std::string content_key(const TokensRequest& request) {
  ContentHash hash;
  request.add_rules(hash);
  // What was read leaves the process's memory.
  constexpr size_t kPart = size_t{8} << 20;
  for (const std::string& path : request.files) {
    const MappedFile file(path);
    hash.add(uint64_t{file.num_bytes()});
    for (size_t at = 0; at < file.num_bytes(); at += kPart) {
      const std::string_view part = file.text().substr(at, kPart);
      hash.add_part(part);
      file.release(at, part.size());
    }
  }
  return hash.hex();
}

void write_tokens(const std::string& path, const std::string& key, const std::vector<FileStamp>& stamps, const TokensRequest& request) {
  TokenCacheWriter writer(path, key, request.vocabulary_size);
  const TokenizeResult counts = request.make(writer);
  const std::vector<FileStamp> now = stamps_of(request.files);
  for (size_t i = 0; i < now.size(); ++i) {
    if (now[i] != stamps[i])
      fail_run("{}: '{}' changed while it was tokenized; start again when it is complete", request.key, request.files[i]);
  }
  writer.finish(counts);
}

CachedTokens opened(const std::string& path, const std::string& key, const std::function<void(const std::string&)>& warn) {
  auto tokens = open_token_cache(path, key, warn);
  if (!tokens) fail_run("the token cache '{}' cannot be read back just after it was written: the disk or its file system fails", path);
  return std::move(*tokens);
}

void ask_before_reading(const TokensRequest& request, const std::vector<FileStamp>& stamps) {
  if (!request.before_reading) return;
  int64_t num_bytes = 0;
  for (const FileStamp& stamp : stamps) num_bytes += stamp.num_bytes;
  request.before_reading(num_bytes);
}

CorpusTokens tokens_without_cache(const TokensRequest& request) {
  const std::vector<FileStamp> stamps = stamps_of(request.files);
  ask_before_reading(request, stamps);
  std::error_code error;
  const auto temporary = std::filesystem::temp_directory_path(error);
  if (error) fail_input("there is no folder for temporary files ({}): set TMPDIR to one that exists, or data.cache", error.message());
  std::string path = (temporary / "zerostep_tokens_XXXXXX").string();
  if (!FileDescriptor(::mkstemp(path.data())).is_open()) fail_file("cannot create the temporary file", path, errno);
  // The name goes once the tokens are mapped, or fail to be; the space with the mapping.
  const struct Unlinked {
    const std::string& path;
    ~Unlinked() { ::unlink(path.c_str()); }
  } unlinked{path};
  write_tokens(path, "", stamps, request);
  return {opened(path, "", request.warn), false};
}

}  // namespace

void add_stamp(ContentHash& hash, const FileStamp& stamp) {
  hash.add(stamp.path)
      .add(static_cast<uint64_t>(stamp.num_bytes))
      .add(static_cast<uint64_t>(stamp.modified_ns))
      .add(stamp.device)
      .add(stamp.inode);
}

int64_t nanoseconds_now() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::system_clock::now().time_since_epoch()).count();
}

CorpusTokens cached_tokens(const TokensRequest& request) {
  if (request.cache.empty()) return tokens_without_cache(request);
  // A damaged file is met more than once on the way.
  std::set<std::string> said;
  const auto warn = [&](const std::string& text) {
    if (said.insert(text).second) request.warn(text);
  };
  const CacheFolder folder(request.cache, warn);
  const int64_t looked_at_ns = nanoseconds_now();
  const std::vector<FileStamp> stamps = stamps_of(request.files);
  const std::string index = stamp_hash(stamps, request);
  const auto find = [&](const std::string& key) { return open_token_cache(folder.file(key + ".tokens"), key, warn); };
  const auto find_by_stamps = [&]() -> std::optional<CachedTokens> {
    const auto key = folder.recall(index);
    return key ? find(*key) : std::nullopt;
  };
  if (auto tokens = find_by_stamps()) return {std::move(*tokens), true};
  ask_before_reading(request, stamps);

  // One reads the corpus, the others wait for what it finds.
  const auto reading = folder.lock(index);
  if (reading) {
    if (auto tokens = find_by_stamps()) return {std::move(*tokens), true};
  }
  const std::string key = content_key(request);
  // The same content may be tokenized from other paths at this moment.
  const auto writing = reading ? folder.lock(key) : std::nullopt;
  if (auto tokens = find(key)) {
    if (writing) folder.remember(index, stamps, looked_at_ns, key);
    return {std::move(*tokens), true};
  }
  if (!writing) fail_file("cannot write into the token cache folder", request.cache, EACCES);
  const std::string temporary = folder.file(key + ".tmp");
  write_tokens(temporary, key, stamps, request);
  folder.publish(temporary, key + ".tokens");
  folder.remember(index, stamps, looked_at_ns, key);
  return {opened(folder.file(key + ".tokens"), key, warn), false};
}

}  // namespace zerostep
