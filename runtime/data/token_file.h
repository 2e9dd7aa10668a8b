#pragma once
#include <cstdint>
#include <string>

#include "base/mapped_file.h"

namespace zerostep {

// Tokens as they lie in a mapped file: little-endian, 2 or 4 bytes each.
class TokenFile {
 public:
  // `first_byte`: where token 0 lies.
  TokenFile(MappedFile file, int64_t first_byte, int64_t num_tokens, int bytes_per_token);
  // A .bin file, recognised by its header: llm.c's with 16-bit tokens (magic 20240520, version 1) or 32-bit ones (20240801, version 7),
  // otherwise nanoGPT's (16-bit tokens, no header). InputError, beginning with `key`, for a header that is damaged or does not fit the
  // size.
  static TokenFile open_bin(const std::string& path, const std::string& key);

  int64_t num_tokens() const { return num_tokens_; }
  int bytes_per_token() const { return bytes_per_token_; }
  const std::string& path() const { return file_.path(); }
  // Tokens [begin, begin + count). A 32-bit token above INT32_MAX reads as negative.
  void read(int64_t begin, int64_t count, int32_t* out) const;
  // 0 for an empty file. Reads the whole file.
  uint32_t largest_token() const;
  // The first position whose token is `limit` or more; num_tokens() when there is none.
  int64_t first_at_least(int64_t limit) const;

 private:
  MappedFile file_;
  const std::byte* tokens_;
  int64_t num_tokens_;
  int bytes_per_token_;
};

}  // namespace zerostep
