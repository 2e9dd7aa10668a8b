#pragma once
#include <cstdint>
#include <mutex>
#include <vector>

#include "runtime/data/sample_order.h"

namespace zerostep {

// Which samples are in which global batch when batches are to have samples of like lengths: see ClassificationStream.
class LengthBuckets {
 public:
  // Batches of one run, which are sorted together.
  static constexpr int64_t kRunBatches = 64;

  // The length of each sample, and the order in which they come; `seed` is for the order of the batches of a run.
  LengthBuckets(std::vector<int32_t> lengths, SampleOrder order, uint64_t seed);
  // The samples of global batch `step`, in increasing order of length but for a batch that reaches from one epoch into the next.
  std::vector<int64_t> batch(int64_t step, int64_t batch_size) const;

 private:
  std::vector<int64_t> sorted_run(int64_t first_position, int64_t count) const;

  std::vector<int32_t> lengths_;
  SampleOrder order_;
  uint64_t seed_;
  // The last run, which the next batches are likely to need again.
  mutable std::mutex mutex_;
  mutable int64_t run_first_ = -1, run_count_ = 0;
  mutable std::vector<int64_t> run_;
};

}  // namespace zerostep
