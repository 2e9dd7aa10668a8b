#pragma once
#include <cstddef>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "models/tokenizer/character_map.h"

namespace zerostep {

// What a tokenizer.json's normalizer makes of a text: its steps, one after the other. Immutable after construction.
class TextNormalizer {
 public:
  struct Prepend {
    std::string text;
  };
  struct Replace {
    std::string pattern, content;
  };
  struct ReplaceSpaces {  // runs of two spaces or more
    std::string content;
  };
  struct Strip {
    bool left, right;
  };
  struct Compose {};    // NFC
  struct Decompose {};  // NFD
  struct LowerCase {};
  using Step = std::variant<Prepend, Replace, ReplaceSpaces, Strip, Compose, Decompose, LowerCase, std::shared_ptr<const CharacterMap>>;

  TextNormalizer() = default;
  explicit TextNormalizer(std::vector<Step> steps) : steps_(std::move(steps)) {}

  // Working memory of one thread.
  struct Scratch {
    std::string text, next;
  };
  // The normal form of well-formed UTF-8: `text` itself or a view of the scratch. `continues`: the text goes on another that keeps_cut
  // parted from it, so nothing is done to its beginning.
  std::string_view apply(std::string_view text, bool continues, Scratch& scratch) const;

  // Whether the normal form of every text that begins as this one does is that of text[0, p), not changed at its last character, followed
  // by that of text[p, end) as what continues. text[p] is a space, a tab or a line end; false where that is not certain.
  bool keeps_cut(std::string_view text, size_t p) const;
  // Whether nothing but white space and what is replaced by name changes.
  bool keeps_letters() const;
  // Whether bytes that belong to no character stay what they are.
  bool keeps_stray_bytes() const;
  // Whether text may go from its beginning, so that the beginning of the normal form is not that of the text.
  bool strips_left() const;
  std::string description() const;  // differs where the steps do

 private:
  std::vector<Step> steps_;
};

// The member `normalizer` of a tokenizer.json. InputError, beginning with the path and ending with `supported`, for a kind that is not
// known.
TextNormalizer parse_normalizer(const std::string& path, const nlohmann::json& normalizer, const std::string& supported);

}  // namespace zerostep
