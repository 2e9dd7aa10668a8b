#pragma once
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "launch/subject.h"
#include "runtime/data/data_stream.h"
#include "runtime/engine/engine.h"
#include "runtime/report/classification_report.h"

namespace zerostep {

// Of one set.
struct Evaluation {
  double loss = 0;
  int64_t tokens = 0;                     // or samples that have labels
  std::optional<ConfusionCounts> counts;  // of a classifier
  std::optional<double> accuracy() const;
};

// The columns of metrics.csv that a configuration's named evaluation sets have; none where there are not several.
std::vector<std::string> columns_of_sets(const Config& config);

// {"loss", "perplexity"}, or what classification_json (classification_report.h) gives and "perplexity"; of several sets those of the first,
// and "sets": {NAME: the same of each}. `classes`: of a classifier.
nlohmann::ordered_json evaluations_json(const std::vector<EvaluationSet>& sets, const std::vector<Evaluation>& evaluations,
                                        const std::vector<std::string>& classes);

// Mean loss over all samples in file order, shared out in micro-batches: rank r takes those r, r + world, ... `num_classes`: of a
// classifier, whose predictions are counted; 0: none. Collective.
Evaluation evaluate(Engine& engine, const DataStream& data, int64_t num_classes, int64_t micro_batch_size, int rank, int world);
// Of each set. Collective.
std::vector<Evaluation> evaluate(Engine& engine, const std::vector<EvaluationSet>& sets, int64_t num_classes, int64_t micro_batch_size,
                                 int rank, int world);

}  // namespace zerostep
