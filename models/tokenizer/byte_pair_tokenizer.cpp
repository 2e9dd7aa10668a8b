#include "models/tokenizer/byte_pair_tokenizer.h"

#include <xxhash.h>

#include <mutex>
#include <utility>

#include "base/error.h"
#include "models/tokenizer/pre_tokenizer.h"
#include "models/tokenizer/utf8.h"
#include "models/tokenizer/word_cache.h"

namespace zerostep {
namespace {

// Identifies the rules in this folder; to be raised when any text could get other tokens.
constexpr const char* kRules = "byte-pair-1";

std::string hash_of(const BytePairVocabulary& vocabulary) {
  std::string all;
  for (const std::string& bytes : vocabulary.bytes_of_token) all += fmt::format("{}:{},", bytes.size(), bytes);
  for (const auto& rule : vocabulary.merges) all += fmt::format("{} {} {};", rule.left, rule.right, rule.result);
  for (int32_t token : vocabulary.token_of_byte) all += fmt::format("{} ", token);
  all += fmt::format("end {}", vocabulary.end_of_document);
  const XXH128_hash_t hash = XXH3_128bits(all.data(), all.size());
  return fmt::format("{}-{:016x}{:016x}", kRules, hash.high64, hash.low64);
}

class BytePairTokenizer final : public Tokenizer {
 public:
  explicit BytePairTokenizer(BytePairVocabulary vocabulary)
      : vocabulary_(std::move(vocabulary)), merges_(vocabulary_.merges), fingerprint_(hash_of(vocabulary_)) {}

  void encode(std::string_view text, std::vector<int32_t>& out) const override {
    if (text.empty()) return;
    const Lease lease(*this);
    Scratch& scratch = lease.get();
    const std::string_view well_formed = with_well_formed_utf8(text, scratch.text);
    for (size_t begin = 0, end = 0; begin < text.size(); begin = end) {
      end = pre_tokenizer_.piece_end(well_formed, begin, *scratch.pre_tokenizer);
      encode_piece(text.substr(begin, end - begin), scratch, out);
    }
  }

  std::string decode(const std::vector<int32_t>& tokens) const override {
    std::string text;
    for (int32_t token : tokens) {
      if (token < 0 || token >= vocabulary_size() || vocabulary_.bytes_of_token[static_cast<size_t>(token)].empty()) {
        fail_input("token {} is not in the tokenizer's vocabulary of {}: decode with the tokenizer of the model that made it", token,
                   vocabulary_size());
      }
      text += vocabulary_.bytes_of_token[static_cast<size_t>(token)];
    }
    return text;
  }

  int64_t vocabulary_size() const override { return static_cast<int64_t>(vocabulary_.bytes_of_token.size()); }
  int32_t end_of_document() const override { return vocabulary_.end_of_document; }
  std::string fingerprint() const override { return fingerprint_; }
  size_t split_point(std::string_view text, size_t at) const override { return PreTokenizer::safe_cut(text, at); }

 private:
  struct Scratch {
    explicit Scratch(const PreTokenizer& pre_tokenizer) : pre_tokenizer(pre_tokenizer.make_scratch()) {}
    PreTokenizer::ScratchPointer pre_tokenizer;
    WordCache words;
    std::string text;
    std::vector<int32_t> symbols;
  };

  // One call's hold on a scratch; they are kept for later calls, as many as there were calls at once.
  class Lease {
   public:
    explicit Lease(const BytePairTokenizer& owner) : owner_(owner) {
      {
        const std::lock_guard lock(owner.mutex_);
        if (!owner.idle_.empty()) {
          scratch_ = std::move(owner.idle_.back());
          owner.idle_.pop_back();
        }
      }
      if (!scratch_) scratch_ = std::make_unique<Scratch>(owner.pre_tokenizer_);
    }
    ~Lease() {
      const std::lock_guard lock(owner_.mutex_);
      owner_.idle_.push_back(std::move(scratch_));
    }
    Lease(const Lease&) = delete;
    Lease& operator=(const Lease&) = delete;
    Scratch& get() const { return *scratch_; }

   private:
    const BytePairTokenizer& owner_;
    std::unique_ptr<Scratch> scratch_;
  };

  void encode_piece(std::string_view piece, Scratch& scratch, std::vector<int32_t>& out) const {
    const bool keep = piece.size() <= WordCache::kMaxWordBytes;
    const uint64_t hash = keep ? WordCache::hash(piece) : 0;
    if (keep) {
      const auto known = scratch.words.find(piece, hash);
      if (!known.empty()) {
        out.insert(out.end(), known.begin(), known.end());
        return;
      }
    }
    scratch.symbols.clear();
    for (char c : piece) scratch.symbols.push_back(vocabulary_.token_of_byte[static_cast<unsigned char>(c)]);
    merges_.apply(scratch.symbols);
    if (keep) scratch.words.insert(piece, hash, scratch.symbols);
    out.insert(out.end(), scratch.symbols.begin(), scratch.symbols.end());
  }

  BytePairVocabulary vocabulary_;
  BytePairMerges merges_;
  PreTokenizer pre_tokenizer_;
  std::string fingerprint_;
  mutable std::mutex mutex_;
  mutable std::vector<std::unique_ptr<Scratch>> idle_;
};

}  // namespace

std::unique_ptr<Tokenizer> make_byte_pair_tokenizer(BytePairVocabulary vocabulary) {
  return std::make_unique<BytePairTokenizer>(std::move(vocabulary));
}

}  // namespace zerostep
