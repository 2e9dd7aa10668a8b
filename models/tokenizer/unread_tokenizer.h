#pragma once
#include <string>
#include <utility>

#include "base/error.h"
#include "models/tokenizer/tokenizer.h"

namespace zerostep {

// Stands for a tokenizer that a model's directory holds and that is not read here. Token files need none; whatever asks for texts gets an
// InputError with the reason.
class UnreadTokenizer final : public Tokenizer {
 public:
  UnreadTokenizer(std::string reason, int64_t vocabulary) : reason_(std::move(reason)), vocabulary_(vocabulary) {}
  void encode(std::string_view, std::vector<int32_t>&) const override { throw InputError(reason_); }
  std::string decode(const std::vector<int32_t>&) const override { throw InputError(reason_); }
  int64_t vocabulary_size() const override { return vocabulary_; }
  int32_t end_of_document() const override { return 0; }
  bool has_text(int32_t) const override { return false; }
  std::string fingerprint() const override { return "none"; }
  size_t split_point(std::string_view text, size_t) const override { return text.size(); }

 private:
  std::string reason_;
  int64_t vocabulary_;
};

}  // namespace zerostep
