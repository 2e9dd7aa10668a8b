#pragma once
#include <cstdint>
#include <optional>
#include <vector>

#include "runtime/data/mixture.h"

namespace zerostep {

// In which order a stream has its samples, which are numbered in the order of its parts and files. A pure function of (parts, seed).
//
// Without weights there is one part, and each epoch has all of it in a permutation of its own. With weights each part has its share of the
// stream (Mixture) and goes through epochs of its own, so that a small part with a large share comes again while another is not yet
// through; an epoch of the stream is as many samples as all parts have together.
class SampleOrder {
 public:
  struct Part {
    int64_t num_samples;
    double weight;
  };
  static SampleOrder whole(int64_t num_samples, bool shuffle, uint64_t seed) { return {{{num_samples, 1}}, shuffle, seed}; }
  // `shuffle` false: a part keeps the order of its files.
  SampleOrder(std::vector<Part> parts, bool shuffle, uint64_t seed);

  // Samples of an epoch.
  int64_t size() const { return firsts_.back(); }
  // The sample at a position, which counts on over epochs.
  int64_t at(int64_t position) const;
  int64_t num_parts() const { return std::ssize(parts_); }
  // The part that a sample is of.
  int64_t part_of(int64_t sample) const;
  // The first sample of a part; of the number of parts: how many there are.
  int64_t first_of(int64_t part) const { return firsts_.at(static_cast<size_t>(part)); }
  double share(int64_t part) const { return mixture_ ? mixture_->share(static_cast<int>(part)) : 1; }

 private:
  std::vector<Part> parts_;
  std::vector<int64_t> firsts_;  // and where the last part ends
  bool shuffle_;
  uint64_t seed_;
  std::optional<Mixture> mixture_;  // of several parts
};

}  // namespace zerostep
