#include "runtime/strategy/make_strategy.h"

#include "base/error.h"
#include "runtime/plan/cost.h"

namespace zerostep {
namespace {

// Units before the first one that trains something (its own or borrowed) need no graph.
int first_trainable_unit(const ModelLayout& layout) {
  for (size_t u = 0; u < layout.units.size(); ++u)
    for (int g : layout.used_by(static_cast<int>(u)))
      if (layout.group(g).trainable) return static_cast<int>(u);
  fail_protocol("[strategy] nothing is trainable");
}

}  // namespace

std::unique_ptr<FirstOrder> make_backprop(const Config& config, const ModelLayout& layout, const Objective& objective) {
  if (!config.step.uses_backprop()) return nullptr;
  return std::make_unique<FirstOrder>(objective, static_cast<int>(layout.units.size()), config.number_checkpoints,
                                      first_trainable_unit(layout));
}

std::unique_ptr<ZerothOrder> make_queries(const Config& config, const ModelLayout& layout, const Objective& objective, int rank,
                                          int world) {
  if (!config.step.uses_queries()) return nullptr;
  return std::make_unique<ZerothOrder>(config.step, objective, layout, query_share(config.step, rank, world), config.run.device != "cuda");
}

Strategies make_strategies(const Config& config, const ModelDefinition& model, const ModelLayout& layout, const Objective& objective,
                           int rank, int world) {
  Strategies out;
  out.query_objective = make_query_objective(config.step, model);
  out.backprop = make_backprop(config, layout, objective);
  out.evaluation = std::make_unique<Evaluate>(objective, static_cast<int>(layout.units.size()));
  out.queries = make_queries(config, layout, out.query_objective ? *out.query_objective : objective, rank, world);
  return out;
}

}  // namespace zerostep
