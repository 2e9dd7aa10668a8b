#pragma once
#include <memory>

#include "runtime/config/config.h"
#include "runtime/data/data_stream.h"
#include "runtime/engine/engine.h"

namespace zerostep {

// What one rank runs at each step. Streams and configuration must outlive it.
class StepBatchSource {
 public:
  // `backprop`: nullptr where both kinds of step read `train`.
  StepBatchSource(const Config& config, const DataStream& train, const DataStream* backprop, int rank, int world);
  StepBatches at(int64_t step) const;

 private:
  const Config& config_;
  const DataStream& queries_;
  const DataStream& backprop_;
  BatchShape query_shape_, backprop_shape_;
};

}  // namespace zerostep
