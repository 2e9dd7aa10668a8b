#include <algorithm>

#include "base/error.h"
#include "models/tokenizer/tokenizer.h"

namespace zerostep {
namespace {

constexpr int32_t kEndOfDocument = 256;

class ByteTokenizer final : public Tokenizer {
 public:
  void encode(std::string_view text, std::vector<int32_t>& out) const override {
    const size_t begin = out.size();
    out.resize(begin + text.size());
    std::transform(text.begin(), text.end(), out.begin() + static_cast<ptrdiff_t>(begin),
                   [](char c) { return static_cast<int32_t>(static_cast<unsigned char>(c)); });
  }

  std::string decode(const std::vector<int32_t>& tokens) const override {
    std::string text;
    text.reserve(tokens.size());
    for (int32_t token : tokens) {
      if (!has_text(token)) {
        fail_input("token {} is outside the byte vocabulary (0 to {}): decode with the tokenizer of the model that made it", token,
                   kEndOfDocument);
      }
      if (token == kEndOfDocument) {
        text += "<|endoftext|>";
      } else {
        text += static_cast<char>(static_cast<unsigned char>(token));
      }
    }
    return text;
  }

  int64_t vocabulary_size() const override { return kEndOfDocument + 1; }
  int32_t end_of_document() const override { return kEndOfDocument; }
  std::string fingerprint() const override { return "byte-1"; }
  size_t split_point(std::string_view text, size_t at) const override { return std::min(at, text.size()); }
};

}  // namespace

std::unique_ptr<Tokenizer> make_byte_tokenizer() { return std::make_unique<ByteTokenizer>(); }

}  // namespace zerostep
