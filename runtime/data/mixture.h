#pragma once
#include <cstdint>
#include <vector>

namespace zerostep {

// Which source each sample of a weighted mixture is of: a pure function of (weights, seed, position), without a table.
//
// The sources are the leaves of a binary tree, made as Huffman's is: the two of least weight are joined until one is left. A node gives the
// lighter of its two children one position out of each stretch of 1 / share of its own positions; which one, in the middle half of the
// stretch, is keyed by (seed, node, stretch). So among the first n samples of a mixture each source has its share of n to within one sample
// where there are two sources, and to within two where there are more.
class Mixture {
 public:
  // Weights above 0, whose sum counts as one. They are kept as multiples of one part in kMixtureUnits.
  Mixture(const std::vector<double>& weights, uint64_t seed);

  struct Place {
    int source;
    int64_t index;  // in the source's own stream: so many samples of the source come before
  };
  Place at(int64_t position) const;
  // Samples of a source among the first `count`.
  int64_t count(int source, int64_t count) const;
  double share(int source) const;

 private:
  struct Node {
    int lighter, heavier, parent;  // -1: a source has no children, and the root no parent
    uint64_t weight;
  };
  // Of the first `position` samples of a node, those of its lighter child; and whether the next one is that child's too.
  struct Part {
    int64_t count;
    bool takes_next;
  };
  Part lighter_part(int node, int64_t position) const;

  std::vector<Node> nodes_;  // the sources, then the joined ones, the root last
  uint64_t seed_;
};

}  // namespace zerostep
