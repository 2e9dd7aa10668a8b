#pragma once
#include <optional>
#include <string>
#include <string_view>

namespace zerostep {

// What stands in a PCRE2 class for the characters that Hugging Face's tokenizers take for white space, letters and numbers (Unicode 16).
std::string_view white_space_class();
std::string_view letter_class();
std::string_view number_class();

// The PCRE2 pattern with the same matches as the regular expression of a Split, which is Oniguruma's in Ruby's syntax: of literal
// characters, classes, \s, \S and the properties L, M, N, P and S, groups without names, alternatives, greedy quantifiers, (?!\S) and $.
// Nothing where it has other parts, whose meaning may differ, or matches the empty text.
std::optional<std::string> split_pattern(std::string_view regex);

}  // namespace zerostep
