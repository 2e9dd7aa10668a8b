#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace zerostep {

// Text to token ids and back. Immutable after construction; encode and decode may run on several threads at once.
class Tokenizer {
 public:
  virtual ~Tokenizer() = default;
  // Appends the tokens of `text` (UTF-8; other bytes are kept as bytes). No special token is added, and the spelling of a special
  // token in the text is ordinary text.
  virtual void encode(std::string_view text, std::vector<int32_t>& out) const = 0;
  // The bytes that encode to `tokens`; end-of-document reads <|endoftext|>. InputError for a token outside the vocabulary.
  virtual std::string decode(const std::vector<int32_t>& tokens) const = 0;
  virtual int64_t vocabulary_size() const = 0;
  virtual int32_t end_of_document() const = 0;  // byte: 256, GPT-2: <|endoftext|>
  // Identifies vocabulary and rules; changes when any token could.
  virtual std::string fingerprint() const = 0;
  // The first position p >= at where encode(text[0, p)) followed by encode(text[p, end)) is encode(text); text.size() when there
  // is none. A long text is so tokenized in parts.
  virtual size_t split_point(std::string_view text, size_t at) const = 0;
};

// The bytes 0..255 and end-of-document 256.
std::unique_ptr<Tokenizer> make_byte_tokenizer();
// GPT-2's byte-pair encoding. `path`: a tokenizer.json, a vocab.json / encoder.json with merges.txt / vocab.bpe beside it, or a folder that
// holds either. InputError names what is missing or malformed.
std::unique_ptr<Tokenizer> load_tokenizer(const std::string& path);

}  // namespace zerostep
