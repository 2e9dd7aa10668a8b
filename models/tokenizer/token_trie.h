#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

namespace zerostep {

// Texts with their tokens, for finding all of them that another text begins with.
class TokenTrie {
 public:
  // Of equal texts the last counts. None is empty.
  explicit TokenTrie(std::vector<std::pair<std::string_view, int32_t>> tokens);

  // Calls found(length, token) for every text that begins `text`, the shortest first.
  template <typename Found>
  void for_each_prefix(std::string_view text, const Found& found) const {
    if (text.empty()) return;
    uint32_t at = roots_[static_cast<unsigned char>(text.front())];
    for (size_t length = 1; at != 0; ++length) {
      const Node& node = nodes_[at];
      if (node.token >= 0) found(length, node.token);
      if (length == text.size()) return;
      at = child(node, text[length]);
    }
  }
  // The token of a text; -1 where it has none.
  int32_t find(std::string_view text) const;

 private:
  struct Node {
    uint32_t first_child = 0;
    int32_t token = -1;
    uint16_t num_children = 0;
  };
  uint32_t child(const Node& node, char byte) const;

  std::vector<Node> nodes_;   // by breadth: the children of one lie side by side; 0 is none
  std::vector<char> labels_;  // the last byte of each
  std::array<uint32_t, 256> roots_ = {};
};

}  // namespace zerostep
