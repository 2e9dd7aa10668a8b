#include "models/tokenizer/token_trie.h"

#include <algorithm>
#include <cstring>

namespace zerostep {

TokenTrie::TokenTrie(std::vector<std::pair<std::string_view, int32_t>> tokens) {
  std::stable_sort(tokens.begin(), tokens.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  struct Range {
    size_t begin, end, depth;  // the texts that begin with a node's
  };
  std::vector<Range> ranges = {{0, tokens.size(), 0}};
  nodes_.resize(1);
  labels_.resize(1);
  for (size_t at = 0; at < ranges.size(); ++at) {
    auto [begin, end, depth] = ranges[at];
    while (begin < end && tokens[begin].first.size() == depth) nodes_[at].token = tokens[begin++].second;
    nodes_[at].first_child = static_cast<uint32_t>(nodes_.size());
    for (size_t next = begin; begin < end; begin = next) {
      const char label = tokens[begin].first[depth];
      while (next < end && tokens[next].first[depth] == label) ++next;
      if (at == 0) roots_[static_cast<unsigned char>(label)] = static_cast<uint32_t>(nodes_.size());
      ++nodes_[at].num_children;
      nodes_.emplace_back();
      labels_.push_back(label);
      ranges.push_back({begin, next, depth + 1});
    }
  }
}

uint32_t TokenTrie::child(const Node& node, char byte) const {
  if (node.num_children == 0) return 0;
  const char* labels = labels_.data() + node.first_child;
  const void* found = std::memchr(labels, static_cast<unsigned char>(byte), node.num_children);
  return found ? node.first_child + static_cast<uint32_t>(static_cast<const char*>(found) - labels) : 0;
}

int32_t TokenTrie::find(std::string_view text) const {
  int32_t token = -1;
  for_each_prefix(text, [&](size_t length, int32_t found) {
    if (length == text.size()) token = found;
  });
  return token;
}

}  // namespace zerostep
