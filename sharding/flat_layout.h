#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "base/nth.h"

namespace zerostep {

// How the parameters of one flat group lie end to end in a full buffer, and how that buffer is assigned to the ranks of a shard group.
// Each parameter starts at an alignment boundary. The buffer is a sequence of slices; each slice is padded so that every rank owns an
// equal contiguous part of it, and a rank's shard is its parts one after the other. One slice is the rule; several come from a bucket
// size below the group's size, or from round-robin. All sizes count elements.
class FlatLayout {
 public:
  struct Options {
    int ranks = 1;
    int64_t alignment = 16;            // elements: 64 bytes of the smallest type that the group is kept in
    int64_t max_slice_elements = 0;    // at most this many a slice, rounded up to ranks * alignment; 0: no limit
    bool slice_per_parameter = false;  // round-robin: every rank owns a share of every parameter
  };
  struct Slice {
    int64_t full_begin;   // in the full buffer
    int64_t per_rank;     // elements each rank owns of it
    int64_t shard_begin;  // in a rank's shard
  };
  // The part of a parameter that a rank owns, in pieces that are contiguous everywhere.
  struct Piece {
    int parameter;             // index into `sizes`
    int64_t parameter_offset;  // from the parameter's first element
    int64_t full_offset, shard_offset;
    int64_t count;
  };
  struct Range {
    int64_t begin, count;
  };

  FlatLayout(std::span<const int64_t> sizes, const Options& options);

  int ranks() const { return options_.ranks; }
  int64_t full_elements() const { return full_elements_; }
  int64_t shard_elements() const { return full_elements_ / options_.ranks; }
  int64_t offset(int parameter) const { return nth(offsets_, parameter); }
  int64_t size(int parameter) const { return nth(sizes_, parameter); }
  int num_parameters() const { return static_cast<int>(sizes_.size()); }
  const std::vector<Slice>& slices() const { return slices_; }
  const Slice& slice(int index) const { return nth(slices_, index); }
  // In shard order.
  std::vector<Piece> pieces(int rank) const;
  // What belongs to no parameter, in the full buffer.
  std::vector<Range> padding() const;

 private:
  Options options_;
  std::vector<int64_t> sizes_, offsets_;
  std::vector<Slice> slices_;
  int64_t full_elements_ = 0;
};

}  // namespace zerostep
