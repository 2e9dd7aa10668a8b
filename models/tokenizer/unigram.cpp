#include <algorithm>
#include <limits>

#include "base/error.h"
#include "base/nth.h"
#include "models/tokenizer/piece_model.h"
#include "models/tokenizer/token_trie.h"
#include "models/tokenizer/utf8.h"
#include "models/tokenizer/word_cache.h"

namespace zerostep {
namespace {

// How much less probable a character without a token is than the least probable token, as in SentencePiece.
constexpr double kUnknownPenalty = 10.0;

class UnigramModel final : public PieceModel {
 public:
  explicit UnigramModel(Unigram parts)
      : parts_(std::move(parts)),
        trie_(parts_.tokens),
        unknown_score_(*std::min_element(parts_.scores.begin(), parts_.scores.end()) - kUnknownPenalty) {}

  std::unique_ptr<PieceModel::Scratch> make_scratch() const override { return std::make_unique<Scratch>(); }

  void encode(std::string_view piece, PieceModel::Scratch& given, std::vector<int32_t>& out) const override {
    auto& scratch = static_cast<Scratch&>(given);
    if (piece.size() > WordCache::kMaxWordBytes) return find_best(piece, scratch, out);
    const uint64_t hash = WordCache::hash(piece);
    const auto known = scratch.words.find(piece, hash);
    if (!known.empty()) {
      out.insert(out.end(), known.begin(), known.end());
      return;
    }
    const size_t before = out.size();
    find_best(piece, scratch, out);
    if (out.size() > before) scratch.words.insert(piece, hash, std::span(out).subspan(before));
  }

  bool parts_between(std::string_view, std::string_view) const override { return false; }
  bool has_all_bytes() const override { return false; }
  std::string description() const override { return fmt::format("unigram unknown {} bytes {}", parts_.unknown, parts_.has_byte_fallback); }

 private:
  // The best way to a position: where its last token begins and which it is.
  struct Node {
    double score = 0;
    size_t begin = kNone;
    int32_t token = -1;
  };
  static constexpr size_t kNone = std::numeric_limits<size_t>::max();
  struct Scratch final : PieceModel::Scratch {
    WordCache words;
    std::vector<Node> nodes;
    std::vector<size_t> path;  // the ends of the tokens, the last first
  };

  void find_best(std::string_view piece, Scratch& scratch, std::vector<int32_t>& out) const {
    std::vector<Node>& nodes = scratch.nodes;
    nodes.assign(piece.size() + 1, Node{});
    for (size_t begin = 0, length = 0; begin < piece.size(); begin += length) {
      length = std::max<size_t>(1, utf8_character_length(piece.substr(begin, 4)));
      const double here = nodes[begin].score;
      const auto offer = [&](size_t end, double score, int32_t token) {
        Node& node = nodes[end];
        if (node.begin == kNone || score > node.score) node = {score, begin, token};
      };
      bool has_single = false;
      trie_.for_each_prefix(piece.substr(begin), [&](size_t size, int32_t token) {
        offer(begin + size, nth(parts_.scores, token) + here, token);
        has_single = has_single || size == length;
      });
      if (!has_single) offer(begin + length, unknown_score_ + here, parts_.unknown);
    }
    scratch.path.clear();
    for (size_t end = piece.size(); end > 0; end = nodes[end].begin) scratch.path.push_back(end);
    for (size_t i = scratch.path.size(); i > 0;) {
      const Node& node = nodes[scratch.path[--i]];
      if (node.token != parts_.unknown) {
        out.push_back(node.token);
        continue;
      }
      // Unknown characters that stand together are one token, or the bytes of all of them.
      size_t end = scratch.path[i];
      while (i > 0 && nodes[scratch.path[i - 1]].token == parts_.unknown) end = scratch.path[--i];
      append_unknown(piece.substr(node.begin, end - node.begin), out);
    }
  }

  void append_unknown(std::string_view text, std::vector<int32_t>& out) const {
    if (const int32_t token = trie_.find(text); token >= 0) {
      out.push_back(token);
      return;
    }
    const size_t before = out.size();
    for (const char c : text) {
      const int32_t token = parts_.has_byte_fallback ? parts_.bytes.token[static_cast<unsigned char>(c)] : -1;
      if (token < 0) {
        out.resize(before);
        out.push_back(parts_.unknown);
        return;
      }
      out.push_back(token);
    }
  }

  Unigram parts_;
  TokenTrie trie_;
  double unknown_score_;
};

}  // namespace

std::unique_ptr<PieceModel> make_unigram_model(Unigram parts) { return std::make_unique<UnigramModel>(std::move(parts)); }

}  // namespace zerostep
