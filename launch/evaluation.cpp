#include "launch/evaluation.h"

#include <algorithm>

namespace zerostep {

EvaluationResult evaluate(Engine& engine, const DataStream& data, int64_t micro_batch_size, int rank, int world) {
  const int64_t samples = data.num_samples(), micro = std::min(micro_batch_size, samples);
  const int64_t batches = (samples + micro - 1) / micro;
  return engine.evaluate((batches + world - 1) / world, [&](int64_t index) -> Engine::EvaluationBatch {
    const int64_t begin = (index * world + rank) * micro;
    if (begin >= samples) return {data.ordered(0, micro), false};
    return {data.ordered(begin, std::min(begin + micro, samples)), true};
  });
}

}  // namespace zerostep
