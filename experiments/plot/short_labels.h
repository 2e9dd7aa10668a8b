#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "experiments/plot/text_width.h"

namespace zerostep {

// Texts made so short that each is at most `most` pixels wide, in their order. What all of them say goes first, what tells them apart last.
struct ShortLabels {
  // How short they had to be. Whole: as they are. Parts: without what all texts have between commas or slashes, and with the last part of
  // a key's path alone. Cut: the names of keys are cut ("que\u2026=64"), or an ellipsis stands for parts between commas or slashes in which
  // one text is like another, never for a part of a value; a name without such parts is cut anywhere. Alike: even so some cannot be told
  // from others, or are so long that they are cut anywhere.
  enum class Kind : uint8_t { Whole, Parts, Cut, Alike } kind = Kind::Whole;
  std::vector<std::string> texts;
};
ShortLabels short_labels(const std::vector<std::string>& texts, double size, double most);
// The same elsewhere than in a picture.
ShortLabels short_labels(const std::vector<std::string>& texts, const TextWidth& width, double most);

}  // namespace zerostep
