#pragma once
#include <optional>

#include "runtime/data/data_stream.h"
#include "runtime/engine/engine.h"
#include "runtime/report/classification_report.h"

namespace zerostep {

struct Evaluation {
  double loss = 0;
  int64_t tokens = 0;                     // or samples that have labels
  std::optional<ConfusionCounts> counts;  // of a classifier
  std::optional<double> accuracy() const;
};

// Mean loss over all samples in file order, shared out in micro-batches: rank r takes those r, r + world, ... `num_classes`: of a
// classifier, whose predictions are counted; 0: none. Collective.
Evaluation evaluate(Engine& engine, const DataStream& data, int64_t num_classes, int64_t micro_batch_size, int rank, int world);

}  // namespace zerostep
