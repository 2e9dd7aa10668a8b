#include "runtime/data/corpus_tokens.h"

#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <optional>
#include <set>
#include <utility>

#include "base/error.h"
#include "base/mapped_file.h"
#include "runtime/data/cache_folder.h"
#include "runtime/data/content_hash.h"
#include "runtime/data/corpus_files.h"
#include "runtime/data/file_errors.h"

namespace zerostep {
namespace {

// To be raised when the same files and tokenizer would give other tokens.
constexpr uint64_t kFormat = 1;

int64_t now_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::system_clock::now().time_since_epoch()).count();
}

std::vector<FileStamp> stamps_of(const std::vector<std::string>& files) {
  std::vector<FileStamp> stamps;
  stamps.reserve(files.size());
  for (const std::string& file : files) stamps.push_back(stamp_of(file));
  return stamps;
}

// What decides the tokens beside the files' content.
void add_rules(ContentHash& hash, const std::vector<std::string>& files, const DataOptions& options, const Tokenizer& tokenizer) {
  hash.add(kFormat).add(tokenizer.fingerprint()).add(files.size());
  const auto is_lines = [&](const std::string& file) { return corpus_kind(file, options.key) == CorpusKind::JsonLines; };
  if (std::none_of(files.begin(), files.end(), is_lines)) return;
  hash.add(options.text_field).add(options.join_fields.size());
  for (const std::string& field : options.join_fields) hash.add(field);
}

void add_stamp(ContentHash& hash, const FileStamp& stamp) {
  hash.add(stamp.path)
      .add(static_cast<uint64_t>(stamp.num_bytes))
      .add(static_cast<uint64_t>(stamp.modified_ns))
      .add(stamp.device)
      .add(stamp.inode);
}

std::string stamp_hash(const std::vector<FileStamp>& stamps, const std::vector<std::string>& files, const DataOptions& options,
                       const Tokenizer& tokenizer) {
  ContentHash hash;
  add_rules(hash, files, options, tokenizer);
  for (const FileStamp& stamp : stamps) add_stamp(hash, stamp);
  return hash.hex();
}

std::string content_key(const std::vector<std::string>& files, const DataOptions& options, const Tokenizer& tokenizer) {
  ContentHash hash;
  add_rules(hash, files, options, tokenizer);
  for (const std::string& path : files) {
    const MappedFile file(path);
    hash.add(static_cast<uint64_t>(corpus_kind(path, options.key)))
        .add(std::string_view(reinterpret_cast<const char*>(file.bytes().data()), file.num_bytes()));
  }
  return hash.hex();
}

void write_tokens(const std::string& path, const std::string& key, const std::vector<std::string>& files,
                  const std::vector<FileStamp>& stamps, const DataOptions& options, const Tokenizer& tokenizer) {
  TokenCacheWriter writer(path, key, tokenizer.vocabulary_size());
  const TokenizeResult counts = tokenize_files(files, options, tokenizer, [&](std::span<const int32_t> tokens) { writer.append(tokens); });
  const std::vector<FileStamp> now = stamps_of(files);
  for (size_t i = 0; i < files.size(); ++i) {
    if (now[i] != stamps[i]) fail_run("{}: '{}' changed while it was tokenized; start again when it is complete", options.key, files[i]);
  }
  writer.finish(counts);
}

CachedTokens opened(const std::string& path, const std::string& key, const std::function<void(const std::string&)>& warn) {
  auto tokens = open_token_cache(path, key, warn);
  if (!tokens) fail_run("the token cache '{}' cannot be read back just after it was written: the disk or its file system fails", path);
  return std::move(*tokens);
}

CorpusTokens tokens_without_cache(const std::vector<std::string>& files, const DataOptions& options, const Tokenizer& tokenizer) {
  std::error_code error;
  const auto temporary = std::filesystem::temp_directory_path(error);
  if (error) fail_input("there is no folder for temporary files ({}): set TMPDIR to one that exists, or data.cache", error.message());
  std::string path = (temporary / "zerostep_tokens_XXXXXX").string();
  const int file = ::mkstemp(path.data());
  if (file < 0) fail_file("cannot create the temporary file", path, errno);
  ::close(file);
  // The name goes once the tokens are mapped, or fail to be; the space with the mapping.
  const struct Unlinked {
    const std::string& path;
    ~Unlinked() { ::unlink(path.c_str()); }
  } unlinked{path};
  write_tokens(path, "", files, stamps_of(files), options, tokenizer);
  return {opened(path, "", options.warn), false};
}

}  // namespace

CorpusTokens tokens_of_text(const std::vector<std::string>& files, const DataOptions& options, const Tokenizer& tokenizer) {
  if (options.cache.empty()) return tokens_without_cache(files, options, tokenizer);
  // A damaged file is met more than once on the way.
  std::set<std::string> said;
  const auto warn = [&](const std::string& text) {
    if (said.insert(text).second) options.warn(text);
  };
  const CacheFolder folder(options.cache, warn);
  const int64_t looked_at_ns = now_ns();
  const std::vector<FileStamp> stamps = stamps_of(files);
  const std::string index = stamp_hash(stamps, files, options, tokenizer);
  const auto find = [&](const std::string& key) { return open_token_cache(folder.file(key + ".tokens"), key, warn); };
  const auto find_by_stamps = [&]() -> std::optional<CachedTokens> {
    const auto key = folder.recall(index);
    return key ? find(*key) : std::nullopt;
  };
  if (auto tokens = find_by_stamps()) return {std::move(*tokens), true};

  // One reads the corpus, the others wait for what it finds.
  const auto reading = folder.lock(index);
  if (reading) {
    if (auto tokens = find_by_stamps()) return {std::move(*tokens), true};
  }
  const std::string key = content_key(files, options, tokenizer);
  // The same content may be tokenized from other paths at this moment.
  const auto writing = reading ? folder.lock(key) : std::nullopt;
  if (auto tokens = find(key)) {
    if (writing) folder.remember(index, stamps, looked_at_ns, key);
    return {std::move(*tokens), true};
  }
  if (!writing) fail_file("cannot write into the token cache folder", options.cache, EACCES);
  const std::string temporary = folder.file(key + ".tmp");
  write_tokens(temporary, key, files, stamps, options, tokenizer);
  folder.publish(temporary, key + ".tokens");
  folder.remember(index, stamps, looked_at_ns, key);
  return {opened(folder.file(key + ".tokens"), key, warn), false};
}

uint32_t largest_token_of(const TokenFile& file, const DataOptions& options) {
  if (options.cache.empty()) return file.largest_token();
  const CacheFolder folder(options.cache, options.warn);
  const int64_t looked_at_ns = now_ns();
  const FileStamp stamp = stamp_of(file.path());
  ContentHash hash;
  hash.add(kFormat).add("largest token");
  add_stamp(hash, stamp);
  const std::string index = hash.hex();
  if (const auto known = folder.recall(index)) {
    uint32_t largest = 0;
    const auto [end, error] = std::from_chars(known->data(), known->data() + known->size(), largest);
    if (error == std::errc() && end == known->data() + known->size()) return largest;
  }
  const uint32_t largest = file.largest_token();
  folder.remember(index, {stamp}, looked_at_ns, std::to_string(largest));
  return largest;
}

}  // namespace zerostep
