#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/file_descriptor.h"
#include "runtime/data/token_file.h"
#include "runtime/data/tokenize_files.h"

struct XXH3_state_s;

namespace zerostep {

// The tokens of a corpus and what was counted when they were made.
struct CachedTokens {
  TokenFile tokens;
  uint32_t largest_token;
  int64_t num_documents, num_text_bytes, num_left_out;
  TextRemarks remarks;
};

// A cache file: a header of 64 bytes (token_cache.cpp), the tokens, and what is to be said of their texts.
// Nothing when there is no such file, or when it is damaged, cut short or made for another key (32 hexadecimal digits), which is told to
// `warn`. Of a file with up to 256 MiB of tokens every byte is looked at, of a larger one the header and the length.
std::optional<CachedTokens> open_token_cache(const std::string& path, const std::string& key,
                                             const std::function<void(const std::string&)>& warn);

// Writes a cache file. The header comes last, so that a file left half-written is never taken for a whole one; the file is removed unless
// finish was reached. RunError naming the path when the disk is full or fails; InputError when the path cannot be written.
class TokenCacheWriter {
 public:
  // `vocabulary_size` decides between 2 and 4 bytes a token.
  TokenCacheWriter(std::string path, std::string key, int64_t vocabulary_size);
  ~TokenCacheWriter();
  TokenCacheWriter(const TokenCacheWriter&) = delete;
  TokenCacheWriter& operator=(const TokenCacheWriter&) = delete;

  void append(std::span<const int32_t> tokens);
  // Makes everything durable under the path.
  void finish(const TokenizeResult& result);

 private:
  template <typename Token>
  void append_as(std::span<const int32_t> tokens);
  void flush();
  void write(const void* data, size_t num_bytes, int64_t at);

  struct FreeChecksum {
    void operator()(XXH3_state_s* state) const;
  };
  std::string path_, key_;
  FileDescriptor file_;
  int bytes_per_token_;
  int64_t num_tokens_ = 0, written_;
  uint32_t largest_token_ = 0;
  std::unique_ptr<XXH3_state_s, FreeChecksum> checksum_;  // of the tokens so far
  std::vector<std::byte> buffer_;
  bool finished_ = false;
};

}  // namespace zerostep
