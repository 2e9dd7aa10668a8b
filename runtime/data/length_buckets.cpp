#include "runtime/data/length_buckets.h"

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "base/nth.h"
#include "runtime/data/permutation.h"

namespace zerostep {
namespace {

// Keeps the order of a run's batches apart from the orders of the samples.
constexpr uint64_t kRunSeed = 0x9E3779B97F4A7C15ULL;

}  // namespace

LengthBuckets::LengthBuckets(std::vector<int32_t> lengths, SampleOrder order, uint64_t seed)
    : lengths_(std::move(lengths)), order_(std::move(order)), seed_(seed) {
  if (std::ssize(lengths_) != order_.size())
    fail_protocol("an order of {} samples of which {} have a length", order_.size(), lengths_.size());
}

std::vector<int64_t> LengthBuckets::sorted_run(int64_t first_position, int64_t count) const {
  const std::lock_guard lock(mutex_);
  if (run_first_ == first_position && run_count_ == count) return run_;
  std::vector<int64_t> run;
  for (int64_t i = 0; i < count; ++i) run.push_back(order_.at(first_position + i));
  std::stable_sort(run.begin(), run.end(), [&](int64_t a, int64_t b) { return nth(lengths_, a) < nth(lengths_, b); });
  run_first_ = first_position;
  run_count_ = count;
  run_ = run;
  return run;
}

std::vector<int64_t> LengthBuckets::batch(int64_t step, int64_t batch_size) const {
  if (step < 0 || batch_size < 1) fail_protocol("global batch {} of {} samples", step, batch_size);
  const auto size = std::ssize(lengths_);
  const int64_t begin = step * batch_size, epoch = begin / size;
  std::vector<int64_t> samples;
  if ((begin + batch_size - 1) / size != epoch) {
    for (int64_t i = 0; i < batch_size; ++i) samples.push_back(order_.at(begin + i));
    return samples;
  }
  // The batches that lie within the epoch, and the run of them that this one belongs to.
  const int64_t first_batch = (epoch * size + batch_size - 1) / batch_size, end_batch = (epoch + 1) * size / batch_size;
  const int64_t run_first = first_batch + (step - first_batch) / kRunBatches * kRunBatches;
  const int64_t run_batches = std::min(kRunBatches, end_batch - run_first);
  const std::vector<int64_t> run = sorted_run(run_first * batch_size, run_batches * batch_size);
  const int64_t place = Permutation(run_batches, seed_ ^ kRunSeed, run_first)(step - run_first);
  samples.assign(run.begin() + place * batch_size, run.begin() + (place + 1) * batch_size);
  return samples;
}

}  // namespace zerostep
