#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace zerostep {

// A token that is found in the text before it is encoded, under Hugging Face's names.
struct AddedToken {
  int32_t id = -1;
  std::string content;
  bool special = false;
  bool lstrip = false, rstrip = false;  // takes the white space beside it along
  bool normalized = false;              // looked for in normalized text, else in the text as it is
};

// The list `added_tokens` of a tokenizer.json. InputError, beginning with the path, for what is malformed or not supported (single_word).
std::vector<AddedToken> parse_added_tokens(const std::string& path, const nlohmann::json& file);

// Finds tokens in text: the leftmost, of several that begin there the longest.
class AddedTokens {
 public:
  AddedTokens() = default;
  explicit AddedTokens(std::vector<AddedToken> tokens);
  bool empty() const { return tokens_.empty(); }

  struct Match {
    size_t begin, end;  // with the white space that it takes along
    int32_t token;
  };
  // The first at or after `from`, where the match before it ended.
  std::optional<Match> next(std::string_view text, size_t from) const;
  // Appends the tokens of a text: those found here, and between them what `encode` appends for a part.
  template <typename Encode>
  void split(std::string_view text, std::vector<int32_t>& out, const Encode& encode) const {
    size_t begin = 0;
    while (const auto match = next(text, begin)) {
      if (match->begin > begin) encode(text.substr(begin, match->begin - begin));
      out.push_back(match->token);
      begin = match->end;
    }
    if (begin < text.size()) encode(text.substr(begin));
  }

  // Whether one of them, as it is written, ends at a position of a text.
  bool may_end_at(std::string_view text, size_t position) const;
  // Whether a text may be cut before white space that follows other characters without cutting a match.
  bool cut_before_space() const { return cut_before_space_; }

 private:
  std::vector<AddedToken> tokens_;     // the longest first
  std::array<bool, 256> begins_ = {};  // by the first byte
  bool cut_before_space_ = true;
};

}  // namespace zerostep
