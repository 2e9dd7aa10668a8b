#include "runtime/data/token_file.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "base/error.h"
#include "base/nth.h"

namespace zerostep {
namespace {

constexpr int64_t kHeaderInts = 256;  // llm.c: 256 int32
constexpr int64_t kHeaderBytes = kHeaderInts * 4;
struct LlmcFormat {
  int32_t magic, version;
  int bytes_per_token;
};
constexpr std::array<LlmcFormat, 2> kLlmcFormats = {{{20240520, 1, 2}, {20240801, 7, 4}}};

template <typename Token>
uint32_t largest(const Token* tokens, int64_t count) {
  // Independent lanes, so that the compiler uses SIMD.
  constexpr int64_t kLanes = 64;
  std::array<Token, kLanes> lanes = {};
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    for (int64_t j = 0; j < kLanes; ++j) nth(lanes, j) = std::max(nth(lanes, j), tokens[i + j]);
  }
  Token result = *std::max_element(lanes.begin(), lanes.end());
  for (; i < count; ++i) result = std::max(result, tokens[i]);
  return result;
}

}  // namespace

TokenFile::TokenFile(MappedFile file, int64_t first_byte, int64_t num_tokens, int bytes_per_token)
    : file_(std::move(file)), tokens_(file_.bytes().data() + first_byte), num_tokens_(num_tokens), bytes_per_token_(bytes_per_token) {}

TokenFile TokenFile::open_bin(const std::string& path, const std::string& key) {
  MappedFile file(path);
  const auto num_bytes = static_cast<int64_t>(file.num_bytes());
  std::array<int32_t, 3> header = {};  // magic, version, count
  if (num_bytes >= 4) std::memcpy(header.data(), file.bytes().data(), static_cast<size_t>(std::min<int64_t>(num_bytes, sizeof(header))));
  for (const LlmcFormat& format : kLlmcFormats) {
    if (header[0] != format.magic) continue;
    if (num_bytes < kHeaderBytes) {
      fail_input("{}: '{}' begins as a token file of llm.c but ends after {} bytes, inside the header of {}: it is cut short", key, path,
                 num_bytes, kHeaderBytes);
    }
    if (header[1] != format.version) {
      fail_input("{}: '{}' is a token file of llm.c with magic {} and version {}; version {} is expected", key, path, format.magic,
                 header[1], format.version);
    }
    const int64_t found = (num_bytes - kHeaderBytes) / format.bytes_per_token;
    if (header[2] < 0 || (num_bytes - kHeaderBytes) != int64_t{header[2]} * format.bytes_per_token) {
      fail_input("{}: the header of '{}' tells of {} tokens of {} bytes, the file has room for {}: it is cut short or damaged", key, path,
                 header[2], format.bytes_per_token, found);
    }
    return {std::move(file), kHeaderBytes, found, format.bytes_per_token};
  }
  if (num_bytes % 2 != 0) {
    fail_input("{}: '{}' has {} bytes and no header of llm.c; 16-bit tokens, an even number of bytes, are expected", key, path, num_bytes);
  }
  return {std::move(file), 0, num_bytes / 2, 2};
}

void TokenFile::read(int64_t begin, int64_t count, int32_t* out) const {
  if (begin < 0 || count < 0 || begin + count > num_tokens_) {
    fail_protocol("tokens {} to {} of '{}', which has {}", begin, begin + count, path(), num_tokens_);
  }
  if (bytes_per_token_ == 2) {
    const auto* tokens = reinterpret_cast<const uint16_t*>(tokens_) + begin;
    std::copy(tokens, tokens + count, out);
  } else {
    std::memcpy(out, tokens_ + begin * 4, static_cast<size_t>(count) * 4);
  }
}

uint32_t TokenFile::largest_token() const {
  return bytes_per_token_ == 2 ? largest(reinterpret_cast<const uint16_t*>(tokens_), num_tokens_)
                               : largest(reinterpret_cast<const uint32_t*>(tokens_), num_tokens_);
}

int64_t TokenFile::first_at_least(int64_t limit) const {
  const auto find = [&](const auto* tokens) {
    return std::find_if(tokens, tokens + num_tokens_, [&](auto token) { return int64_t{token} >= limit; }) - tokens;
  };
  return bytes_per_token_ == 2 ? find(reinterpret_cast<const uint16_t*>(tokens_)) : find(reinterpret_cast<const uint32_t*>(tokens_));
}

}  // namespace zerostep
