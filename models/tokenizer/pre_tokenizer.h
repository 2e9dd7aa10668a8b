#pragma once
#include <cstddef>
#include <memory>
#include <string_view>

namespace zerostep {

// Cuts text into the pieces that byte-pair encoding never merges across, by GPT-2's pattern
//   's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
// with \s as Unicode's White_Space and letters and numbers as of Unicode 16.
class PreTokenizer {
 public:
  // Working memory of one thread.
  class Scratch;
  struct ScratchDeleter {
    void operator()(Scratch* scratch) const;
  };
  using ScratchPointer = std::unique_ptr<Scratch, ScratchDeleter>;

  PreTokenizer();
  ~PreTokenizer();
  PreTokenizer(const PreTokenizer&) = delete;
  PreTokenizer& operator=(const PreTokenizer&) = delete;

  ScratchPointer make_scratch() const;
  // End of the piece that begins at `begin`, itself the end of the piece before it (or 0) and below text.size(). The text is well-formed
  // UTF-8.
  size_t piece_end(std::string_view text, size_t begin, Scratch& scratch) const;

  // First position p >= at, p > 0, at which every text that begins as this one does has a piece boundary: a space, tab or line end
  // after a character that is no white space. text.size() when there is none. Any bytes.
  static size_t safe_cut(std::string_view text, size_t at);

 private:
  struct Code;
  std::unique_ptr<Code> code_;
};

}  // namespace zerostep
