#pragma once
#include <cstddef>
#include <span>
#include <vector>

#include "sharding/comm/operation.h"
#include "sharding/device_transport.h"

namespace zerostep {

// Sums of the values of a group's GPUs whose bits are those of every other backend: each rank takes the other ranks' values of its part as
// they are, and sums them in rank order. Operations are put on streams of the device, one at a time.
class RankOrderedSums {
 public:
  // The transport must outlive it.
  RankOrderedSums(int rank, int size, DeviceTransport& transport) : rank_(rank), size_(size), transport_(transport) {}
  // Memory of the device for other ranks' values, as much on every rank, until operations that were put before it is lent anew are done.
  // What does not fit comes in rounds.
  void lend(std::span<std::byte> memory) { lent_ = memory; }
  std::span<std::byte> lent() const { return lent_; }

  void reduce_scatter(const Operation& operation, Stream& stream);
  // Each rank sums its part, and gives it to the others.
  void all_reduce(const Operation& operation, Stream& stream);

 private:
  // Elements [at, at + count) of every rank's part of a segment, fewer where a part ends before; where this rank's part goes; and where in
  // the lent memory the other ranks' values of it come, rank after rank.
  struct Window {
    const Segment* segment;
    int64_t at, count;
    void* target;
    int64_t offset;
  };

  // The elements of a segment that a rank sums.
  SummedPart part_of(const Operation& operation, const Segment& segment, int peer) const;
  void* place_of(const Operation& operation, const Segment& segment, int peer) const;
  void sum_parts(const Operation& operation, Stream& stream);
  void sum_round(const Operation& operation, const std::vector<Window>& round, Stream& stream);

  const int rank_, size_;
  DeviceTransport& transport_;
  std::span<std::byte> lent_;
};

}  // namespace zerostep
