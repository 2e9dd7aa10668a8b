#pragma once
#include "runtime/data/data_stream.h"
#include "runtime/engine/engine.h"

namespace zerostep {

// Mean loss over all samples of `data`, dealt to the ranks in micro-batches. Collective.
EvaluationResult evaluate(Engine& engine, const DataStream& data, int64_t micro_batch_size, int rank, int world);

}  // namespace zerostep
