#include "models/tokenizer/added_tokens.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/error.h"
#include "models/tokenizer/normalization.h"
#include "models/tokenizer/utf8.h"

namespace zerostep {
namespace {

// Where the white space that ends at `end` begins, at `from` at the earliest.
size_t space_before(std::string_view text, size_t from, size_t end) {
  while (end > from) {
    size_t begin = end - 1;
    while (begin > from && (static_cast<unsigned char>(text[begin]) & 0xC0) == 0x80) --begin;
    std::string_view character = text.substr(begin, end - begin);
    if (utf8_character_length(character) != character.size() || !is_white_space(take_code_point(character))) break;
    end = begin;
  }
  return end;
}

size_t space_after(std::string_view text, size_t begin) {
  while (begin < text.size()) {
    const size_t length = utf8_character_length(text.substr(begin, 4));
    std::string_view character = text.substr(begin, length);
    if (length == 0 || !is_white_space(take_code_point(character))) break;
    begin += length;
  }
  return begin;
}

}  // namespace

std::vector<AddedToken> parse_added_tokens(const std::string& path, const nlohmann::json& file) {
  std::vector<AddedToken> tokens;
  const auto list = file.find("added_tokens");
  if (list == file.end() || list->is_null()) return tokens;
  if (!list->is_array()) fail_input("'{}': added_tokens is {}; a list is expected", path, list->type_name());
  for (const nlohmann::json& entry : *list) {
    if (!entry.is_object() || !entry.contains("content") || !entry["content"].is_string() || !entry.contains("id")) {
      fail_input("'{}': added token {} has no content and id", path, entry.dump());
    }
    const auto flag = [&](const char* name) { return entry.contains(name) && entry[name] == true; };
    AddedToken token;
    token.content = entry["content"].get<std::string>();
    if (token.content.empty()) fail_input("'{}': added token {} has no text", path, entry.dump());
    if (!entry["id"].is_number_integer() || entry["id"].get<int64_t>() < 0 || entry["id"].get<int64_t>() > INT32_MAX) {
      fail_input("'{}': added token '{}' has id {}; a whole number from 0 is expected", path, token.content, entry["id"].dump());
    }
    token.id = entry["id"].get<int32_t>();
    token.special = flag("special");
    token.lstrip = flag("lstrip");
    token.rstrip = flag("rstrip");
    token.normalized = flag("normalized");
    if (flag("single_word")) {
      fail_input("'{}': added token '{}' is only found as a word of its own (single_word), which is not supported: set it to false", path,
                 token.content);
    }
    tokens.push_back(std::move(token));
  }
  return tokens;
}

AddedTokens::AddedTokens(std::vector<AddedToken> tokens) : tokens_(std::move(tokens)) {
  std::stable_sort(tokens_.begin(), tokens_.end(),
                   [](const AddedToken& a, const AddedToken& b) { return a.content.size() > b.content.size(); });
  for (const AddedToken& token : tokens_) {
    begins_[static_cast<unsigned char>(token.content.front())] = true;
    const auto is_space = [](char c) { return c == ' ' || (c >= '\t' && c <= '\r'); };
    bool inside = false;
    for (size_t i = 1; i < token.content.size(); ++i) inside = inside || (is_space(token.content[i]) && !is_space(token.content[i - 1]));
    // White space that is taken along from the left stays whole in the second part.
    if (inside || token.rstrip) cut_before_space_ = false;
  }
}

std::optional<AddedTokens::Match> AddedTokens::next(std::string_view text, size_t from) const {
  if (tokens_.empty()) return std::nullopt;
  for (size_t at = from; at < text.size(); ++at) {
    if (!begins_[static_cast<unsigned char>(text[at])]) continue;
    const std::string_view rest = text.substr(at);
    const auto found = std::find_if(tokens_.begin(), tokens_.end(), [&](const AddedToken& t) { return rest.starts_with(t.content); });
    if (found == tokens_.end()) continue;
    const size_t end = at + found->content.size();
    return Match{found->lstrip ? space_before(text, from, at) : at, found->rstrip ? space_after(text, end) : end, found->id};
  }
  return std::nullopt;
}

bool AddedTokens::may_end_at(std::string_view text, size_t position) const {
  const std::string_view before = text.substr(0, position);
  return std::any_of(tokens_.begin(), tokens_.end(), [&](const AddedToken& t) { return before.ends_with(t.content); });
}

}  // namespace zerostep
