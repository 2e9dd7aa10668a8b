#include "runtime/data/token_cache.h"

#include <fcntl.h>
#include <unistd.h>
#include <xxhash.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <new>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/error.h"
#include "runtime/data/file_errors.h"

namespace zerostep {
namespace {

// The checksum of a file of version 1 is of its header alone, that of version 2 of all of it: of so many bytes at most, which are read
// at each start. At 10 GB/s that takes 30 ms; of larger files a start would wait for the disk.
constexpr uint32_t kHeaderIsChecked = 1, kWholeIsChecked = 2;
constexpr uint64_t kMostCheckedBytes = uint64_t{256} << 20;
constexpr size_t kBufferBytes = 4 << 20;

struct Header {
  std::array<char, 8> magic = {'Z', 'S', 'T', 'O', 'K', 'E', 'N', 'S'};
  uint32_t version = kHeaderIsChecked;
  uint16_t bytes_per_token = 0, num_remark_bytes = 0;
  uint64_t num_tokens = 0, num_documents = 0, num_text_bytes = 0;
  uint64_t key_hash = 0;
  uint32_t largest_token = 0, num_left_out = 0;
  uint64_t checksum = 0;  // XXH3 of what stands before it, in version 2 with the XXH3 of what follows as its seed
};
static_assert(sizeof(Header) == 64);

uint64_t checksum_of(const Header& header, uint64_t of_content) {
  return XXH3_64bits_withSeed(&header, offsetof(Header, checksum), header.version == kWholeIsChecked ? of_content : 0);
}
uint64_t checksum_of_content(const MappedFile& file) {
  const size_t size = file.num_bytes() - sizeof(Header);
  file.populate(sizeof(Header), size);
  const uint64_t checksum = XXH3_64bits(file.bytes().data() + sizeof(Header), size);
  file.release(0, file.num_bytes());
  return checksum;
}
uint64_t hash_of(const std::string& key) { return XXH3_64bits(key.data(), key.size()); }

}  // namespace

std::optional<CachedTokens> open_token_cache(const std::string& path, const std::string& key,
                                             const std::function<void(const std::string&)>& warn) {
  if (::access(path.c_str(), F_OK) != 0) return std::nullopt;
  MappedFile file(path);
  const auto damaged = [&](const std::string& what) {
    warn(fmt::format("the token cache '{}' {}; it is made anew", path, what));
    return std::nullopt;
  };
  Header header;
  if (file.num_bytes() < sizeof(header)) return damaged(fmt::format("has {} bytes, less than its header", file.num_bytes()));
  std::memcpy(&header, file.bytes().data(), sizeof(header));
  if (header.magic != Header().magic) return damaged("does not begin as one");
  const bool is_whole_checked = header.version == kWholeIsChecked && file.num_bytes() <= sizeof(header) + kMostCheckedBytes;
  if (header.checksum != checksum_of(header, is_whole_checked ? checksum_of_content(file) : 0))
    return damaged(is_whole_checked ? "is damaged: its checksum is another" : "has a damaged header");
  if (header.version != kHeaderIsChecked && header.version != kWholeIsChecked)
    return damaged(fmt::format("has format version {}, which this program does not read", header.version));
  if (header.key_hash != hash_of(key)) return damaged("belongs to another corpus");
  const uint64_t remarks_at = sizeof(header) + header.num_tokens * header.bytes_per_token, expected = remarks_at + header.num_remark_bytes;
  if (file.num_bytes() != expected) return damaged(fmt::format("has {} bytes instead of {}", file.num_bytes(), expected));
  TextRemarks remarks;
  try {
    remarks = TextRemarks::unpacked(file.text().substr(remarks_at));
  } catch (const nlohmann::json::exception&) {
    return damaged("ends with remarks that cannot be read");
  }
  TokenFile tokens(std::move(file), sizeof(header), static_cast<int64_t>(header.num_tokens), static_cast<int>(header.bytes_per_token));
  return CachedTokens{std::move(tokens),
                      header.largest_token,
                      static_cast<int64_t>(header.num_documents),
                      static_cast<int64_t>(header.num_text_bytes),
                      static_cast<int64_t>(header.num_left_out),
                      std::move(remarks)};
}

void TokenCacheWriter::FreeChecksum::operator()(XXH3_state_s* state) const { XXH3_freeState(state); }

TokenCacheWriter::TokenCacheWriter(std::string path, std::string key, int64_t vocabulary_size)
    : path_(std::move(path)),
      key_(std::move(key)),
      bytes_per_token_(vocabulary_size <= 65536 ? 2 : 4),
      written_(sizeof(Header)),
      checksum_(XXH3_createState()) {
  file_ = FileDescriptor(::open(path_.c_str(), O_CREAT | O_TRUNC | O_RDWR | O_CLOEXEC, 0644));
  if (!file_.is_open()) fail_file("cannot create the token cache", path_, errno);
  buffer_.reserve(kBufferBytes);
  if (!checksum_) throw std::bad_alloc();
  XXH3_64bits_reset(checksum_.get());
}

TokenCacheWriter::~TokenCacheWriter() {
  if (!finished_) ::unlink(path_.c_str());
}

void TokenCacheWriter::append(std::span<const int32_t> tokens) {
  if (bytes_per_token_ == 2) {
    append_as<uint16_t>(tokens);
  } else {
    append_as<uint32_t>(tokens);
  }
  num_tokens_ += static_cast<int64_t>(tokens.size());
}

template <typename Token>
void TokenCacheWriter::append_as(std::span<const int32_t> tokens) {
  while (!tokens.empty()) {
    const size_t count = std::min(tokens.size(), (kBufferBytes - buffer_.size()) / sizeof(Token));
    const size_t begin = buffer_.size();
    buffer_.resize(begin + count * sizeof(Token));
    auto* out = reinterpret_cast<Token*>(buffer_.data() + begin);
    for (size_t i = 0; i < count; ++i) {
      out[i] = static_cast<Token>(tokens[i]);
      largest_token_ = std::max(largest_token_, static_cast<uint32_t>(tokens[i]));
    }
    tokens = tokens.subspan(count);
    if (buffer_.size() == kBufferBytes) flush();
  }
}

void TokenCacheWriter::flush() {
  if (XXH3_64bits_update(checksum_.get(), buffer_.data(), buffer_.size()) != XXH_OK) fail_protocol("a checksum cannot be made");
  write(buffer_.data(), buffer_.size(), written_);
  written_ += static_cast<int64_t>(buffer_.size());
  buffer_.clear();
}

void TokenCacheWriter::write(const void* data, size_t num_bytes, int64_t at) {
  const auto* bytes = static_cast<const std::byte*>(data);
  while (num_bytes > 0) {
    const ssize_t done = ::pwrite(file_.get(), bytes, num_bytes, at);
    if (done < 0 && errno == EINTR) continue;
    if (done <= 0) fail_file("cannot write the token cache", path_, done < 0 ? errno : ENOSPC);
    bytes += done;
    num_bytes -= static_cast<size_t>(done);
    at += done;
  }
}

void TokenCacheWriter::finish(const TokenizeResult& result) {
  flush();
  const std::string remarks = result.remarks.packed();
  for (const char c : remarks) buffer_.push_back(static_cast<std::byte>(c));
  flush();
  if (::fsync(file_.get()) != 0) fail_file("cannot write the token cache", path_, errno);
  Header header;
  header.bytes_per_token = static_cast<uint16_t>(bytes_per_token_);
  header.num_remark_bytes = static_cast<uint16_t>(remarks.size());
  header.num_tokens = static_cast<uint64_t>(num_tokens_);
  header.num_documents = static_cast<uint64_t>(result.num_documents);
  header.num_text_bytes = static_cast<uint64_t>(result.num_text_bytes);
  header.key_hash = hash_of(key_);
  header.largest_token = largest_token_;
  header.num_left_out = static_cast<uint32_t>(std::min<int64_t>(result.num_left_out, UINT32_MAX));
  if (static_cast<uint64_t>(written_) <= sizeof(header) + kMostCheckedBytes) header.version = kWholeIsChecked;
  header.checksum = checksum_of(header, XXH3_64bits_digest(checksum_.get()));
  write(&header, sizeof(header), 0);
  if (::fsync(file_.get()) != 0) fail_file("cannot write the token cache", path_, errno);
  finished_ = true;
}

}  // namespace zerostep
