#include "runtime/data/sample_order.h"

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "base/nth.h"
#include "runtime/data/permutation.h"

namespace zerostep {
namespace {

// Keeps the permutations of the parts apart.
constexpr uint64_t kPartSeed = 0xBF58476D1CE4E5B9ULL;

}  // namespace

SampleOrder::SampleOrder(std::vector<Part> parts, bool shuffle, uint64_t seed)
    : parts_(std::move(parts)), firsts_{0}, shuffle_(shuffle), seed_(seed) {
  if (parts_.empty()) fail_protocol("an order of no samples");
  std::vector<double> weights;
  for (const Part& part : parts_) {
    if (part.num_samples < 1) fail_protocol("an order of samples of which one part has {}", part.num_samples);
    firsts_.push_back(firsts_.back() + part.num_samples);
    weights.push_back(part.weight);
  }
  if (parts_.size() > 1) mixture_.emplace(weights, seed);
}

int64_t SampleOrder::at(int64_t position) const {
  if (position < 0) fail_protocol("sample {} of a stream that begins at 0", position);
  const Mixture::Place place = mixture_ ? mixture_->at(position) : Mixture::Place{0, position};
  const int64_t size = nth(parts_, place.source).num_samples, index = place.index % size;
  const uint64_t seed = seed_ ^ kPartSeed * static_cast<uint64_t>(place.source);
  return nth(firsts_, place.source) + (shuffle_ ? Permutation(size, seed, place.index / size)(index) : index);
}

int64_t SampleOrder::part_of(int64_t sample) const {
  return std::upper_bound(firsts_.begin(), firsts_.end() - 1, sample) - firsts_.begin() - 1;
}

}  // namespace zerostep
