#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace zerostep {

// Text to token ids and back. Immutable after construction; encode and decode may run on several threads at once.
class Tokenizer {
 public:
  virtual ~Tokenizer() = default;
  // Appends the tokens of `text` (UTF-8; byte-level tokenizers keep other bytes as bytes). prefix and suffix are not added. The added
  // tokens of a tokenizer.json, and WordPiece's [CLS] and the like, are found in the text; elsewhere the spelling of a special token is
  // ordinary text.
  virtual void encode(std::string_view text, std::vector<int32_t>& out) const = 0;
  // The same for a text that split_point cut off another: as what goes on, without what a tokenizer puts at a text's beginning.
  virtual void encode_rest(std::string_view text, std::vector<int32_t>& out) const { encode(text, out); }
  // The bytes that encode to `tokens`; end-of-document reads <|endoftext|>. WordPiece, which drops white space: its words with a space
  // between them. InputError for a token outside the vocabulary.
  virtual std::string decode(const std::vector<int32_t>& tokens) const = 0;
  virtual int64_t vocabulary_size() const = 0;
  virtual int32_t end_of_document() const = 0;  // byte: 256, GPT-2: <|endoftext|>, WordPiece: [SEP]
  // What the tokenizer's template puts before and after one text: BERT's [CLS] and [SEP], Llama 3's <|begin_of_text|>.
  virtual std::vector<int32_t> prefix() const { return {}; }
  virtual std::vector<int32_t> suffix() const { return {}; }
  // Fills up shorter samples of a batch, where the mask hides it.
  virtual int32_t padding() const { return end_of_document(); }
  virtual std::optional<int32_t> mask() const { return std::nullopt; }  // the token to be predicted, of a masked model
  // Whether a token stands for a text: an id may be unused, or beyond the vocabulary where a model's is padded.
  virtual bool has_text(int32_t token) const { return token >= 0 && token < vocabulary_size(); }
  // What becomes of bytes that are no UTF-8 text.
  enum class StrayBytes : uint8_t {
    Kept,  // tokens stand for them: whoever names such a text is warned
    Lost   // none do, so a text that has them is refused
  };
  virtual StrayBytes stray_bytes() const { return StrayBytes::Kept; }
  // Identifies vocabulary and rules; changes when any token could.
  virtual std::string fingerprint() const = 0;
  // The first position p >= at where encode(text[0, p)) followed by encode_rest(text[p, end)) is encode(text), and the same holds of
  // encode_rest(text); text.size() when there is none. A long text is so tokenized in parts.
  virtual size_t split_point(std::string_view text, size_t at) const = 0;
};

// A file of a tokenizer, and its name in a Hugging Face directory.
struct TokenizerFile {
  std::string path, name;
};
// The files that make the tokenizer at such a path, and those beside it that say more of its special tokens: a directory that holds them
// under these names gives the same tokens, here and in other tools. Nothing where there is no tokenizer.
std::vector<TokenizerFile> tokenizer_files(const std::string& path);
// Every name under which a directory may hold files of a tokenizer: those that tokenizer_files gives, and GPT-2's old ones.
const std::vector<std::string>& tokenizer_file_names();

// The class of transformers whose rules a vocab.json with merges.txt beside it has, by the files in its folder: "GPT2Tokenizer",
// "RobertaTokenizer"...
std::string byte_pair_class(const std::string& vocabulary);

// The bytes 0..255 and end-of-document 256.
std::unique_ptr<Tokenizer> make_byte_tokenizer();
// Byte-pair encoding of bytes (GPT-2, Llama 3, Qwen2) or characters (Llama 2), Unigram (T5, XLM-R) or BERT's WordPiece. `path`: a
// tokenizer.json, a vocab.json / encoder.json with merges.txt / vocab.bpe beside it (GPT-2's rules), a vocab.txt (WordPiece;
// tokenizer_config.json beside it may say do_lower_case, strip_accents and tokenize_chinese_chars), or a folder that holds one of them.
// InputError names what is missing, malformed or not supported.
std::unique_ptr<Tokenizer> load_tokenizer(const std::string& path);

}  // namespace zerostep
