#pragma once
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace zerostep {

// Bytes of the extended grapheme cluster (UAX #29, Unicode 16) with which well-formed UTF-8 begins; 0 for an empty text.
size_t grapheme_length(std::string_view text);
// Whether the character is drawn to the one behind it, as an Arabic number sign is to its digits (Prepend).
bool joins_next(uint32_t code_point);

}  // namespace zerostep
