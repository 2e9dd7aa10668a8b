#pragma once
#include <fmt/format.h>

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "models/tokenizer/tokenizer.h"

// What tests of tokenizers share.
namespace zerostep {

inline std::filesystem::path source_folder() {
  const char* set = std::getenv("ZEROSTEP_SOURCE_DIR");
  return set ? std::filesystem::path(set) : std::filesystem::current_path();
}

inline std::filesystem::path reference_folder() { return source_folder() / "tests/models/reference"; }

inline std::vector<int32_t> encode(const Tokenizer& tokenizer, std::string_view text) {
  std::vector<int32_t> tokens;
  tokenizer.encode(text, tokens);
  return tokens;
}

// As the scripts that make the references sum up long results.
inline std::string fnv1a(std::string_view text) {
  uint64_t hash = 0xCBF29CE484222325ULL;
  for (char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001B3ULL;
  return fmt::format("{:016x}", hash);
}

// Every code point of Unicode, surrogates aside.
template <typename Visit>
void for_each_code_point(const Visit& visit) {
  for (uint32_t c = 0; c < 0x110000; ++c) {
    if (c < 0xD800 || c >= 0xE000) visit(c);
  }
}

}  // namespace zerostep
