#pragma once
#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace zerostep {

// SentencePiece's map of short texts to what they become (`precompiled_charsmap`), applied as Hugging Face's tokenizers apply it: to a
// grapheme cluster of less than six bytes as a whole, and then to single characters; of several entries that a text begins with the
// shortest counts, and all of the text becomes what that entry says.
class CharacterMap {
 public:
  // The bytes of a map: the size of a Darts-clone double array in bytes, the array, and texts that end with a zero byte. InputError,
  // beginning with `where`, when they are none.
  CharacterMap(const std::string& where, std::string_view bytes);

  // What a text becomes; nothing where no entry begins it.
  std::optional<std::string_view> find(std::string_view text) const;
  // Appends what well-formed UTF-8 becomes.
  void apply(std::string_view text, std::string& out) const;
  // The bytes that the map was made of, to tell one from another.
  const std::string& bytes() const { return bytes_; }

 private:
  uint32_t unit(size_t at) const { return at < units_.size() ? units_[at] : 0; }

  std::string bytes_;
  std::vector<uint32_t> units_;
  std::string_view texts_;                  // of bytes_
  std::array<bool, 128> keeps_ascii_ = {};  // single characters that no entry begins
};

// The bytes that Base64 (RFC 4648, with padding) spells; nothing where it is none.
std::optional<std::string> base64_bytes(std::string_view text);

}  // namespace zerostep
