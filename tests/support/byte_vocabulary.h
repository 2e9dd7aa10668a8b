#pragma once
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>

#include "models/tokenizer/utf8.h"

namespace zerostep {

// The 256 bytes by their numbers, each under the character that the files of GPT-2's tokenizer write for it: its own where it prints,
// otherwise the next one from U+0100 on.
inline nlohmann::json byte_vocabulary() {
  nlohmann::json vocabulary = nlohmann::json::object();
  uint32_t next = 0x100;
  for (uint32_t byte = 0; byte < 256; ++byte) {
    const bool prints = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
    std::string character;
    append_utf8(prints ? byte : next++, character);
    vocabulary[character] = byte;
  }
  return vocabulary;
}

}  // namespace zerostep
