#include "launch/evaluation.h"

#include <ATen/ops/argmax.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

namespace zerostep {
namespace {

// Logits [B, classes] and labels [B, 1].
void count_predictions(const Batch& batch, const TensorList& outputs, ConfusionCounts& counts) {
  const at::Tensor predictions = at::argmax(outputs.at(0), 1).contiguous(), labels = batch.labels.contiguous();
  for (int64_t i = 0; i < predictions.size(0); ++i) counts.add(labels.data_ptr<int64_t>()[i], predictions.data_ptr<int64_t>()[i]);
}

}  // namespace

std::vector<std::string> columns_of_sets(const Config& config) {
  const std::vector<SourceConfig>& sets = config.data.eval;
  std::vector<std::string> out;
  if (sets.size() < 2 || sets.front().name.empty()) return out;
  for (const SourceConfig& set : sets) out.push_back("eval_loss." + set.name);
  for (const SourceConfig& set : sets)
    if (config.model.classifies) out.push_back("eval_accuracy." + set.name);
  return out;
}

nlohmann::ordered_json evaluations_json(const std::vector<EvaluationSet>& sets, const std::vector<Evaluation>& evaluations,
                                        const std::vector<std::string>& classes) {
  const auto of_one = [&](const Evaluation& evaluation) {
    nlohmann::ordered_json out{{"loss", evaluation.loss}};
    if (evaluation.counts) out = classification_json(*evaluation.counts, classes);
    out["perplexity"] = std::exp(evaluation.loss);
    return out;
  };
  nlohmann::ordered_json out = of_one(evaluations.front());
  if (sets.size() < 2) return out;
  for (size_t i = 0; i < sets.size(); ++i) out["sets"][sets[i].name] = of_one(evaluations.at(i));
  return out;
}

std::optional<double> Evaluation::accuracy() const {
  if (!counts) return std::nullopt;
  return scores_of(*counts).accuracy;
}

Evaluation evaluate(Engine& engine, const DataStream& data, int64_t num_classes, int64_t micro_batch_size, int rank, int world) {
  const int64_t samples = data.num_samples(), micro = std::min(micro_batch_size, samples);
  const int64_t batches = (samples + micro - 1) / micro;
  Evaluation out;
  if (num_classes > 0) out.counts.emplace(num_classes);
  Engine::OutputObserver observer;
  if (out.counts) observer = [&](const Batch& batch, const TensorList& outputs) { count_predictions(batch, outputs, *out.counts); };
  const auto batch = [&](int64_t index) -> Engine::EvaluationBatch {
    const int64_t begin = (index * world + rank) * micro;
    if (begin >= samples) return {data.ordered(0, micro), false};
    return {data.ordered(begin, std::min(begin + micro, samples)), true};
  };
  const EvaluationResult result = engine.evaluate((batches + world - 1) / world, batch, observer);
  out.loss = result.loss;
  out.tokens = result.tokens;
  if (!out.counts) return out;
  std::vector<double> sums(out.counts->values().begin(), out.counts->values().end());
  engine.add_up(sums, "predictions");
  std::transform(sums.begin(), sums.end(), out.counts->values().begin(), [](double n) { return static_cast<int64_t>(n); });
  out.counts->loss_sum = result.loss * static_cast<double>(result.tokens);
  out.counts->loss_count = result.tokens;
  return out;
}

std::vector<Evaluation> evaluate(Engine& engine, const std::vector<EvaluationSet>& sets, int64_t num_classes, int64_t micro_batch_size,
                                 int rank, int world) {
  std::vector<Evaluation> out;
  for (const EvaluationSet& set : sets) out.push_back(evaluate(engine, *set.data, num_classes, micro_batch_size, rank, world));
  return out;
}

}  // namespace zerostep
