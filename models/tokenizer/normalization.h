#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace zerostep {

// Unicode's normal forms (UAX #15) and the character classes that tokenizers go by, from unicode_tables.

// Canonical composition of UTF-8: `text` itself where nothing changes, otherwise a view of `buffer`. Bytes that belong to no character
// stay.
std::string_view nfc_form(std::string_view text, std::string& buffer);
// Canonical decomposition, in place.
void decompose(std::vector<uint32_t>& code_points);

bool is_white_space(uint32_t code_point);   // White_Space
bool is_accent(uint32_t code_point);        // a mark without width
bool is_number(uint32_t code_point);        // decimal digits and other numbers
bool is_bert_removed(uint32_t code_point);  // control, format and private characters
bool is_bert_punctuation(uint32_t code_point);
bool is_bert_ideograph(uint32_t code_point);  // BERT's ranges of Chinese characters
// Appends the lower case of one character, whatever stands beside it.
void append_lower_case(uint32_t code_point, std::vector<uint32_t>& out);

}  // namespace zerostep
