#pragma once
#include <memory>

#include "runtime/config/config.h"
#include "runtime/plan/model_layout.h"
#include "runtime/strategy/first_order.h"
#include "runtime/strategy/strategy.h"
#include "runtime/strategy/zeroth_order.h"

namespace zerostep {

// The strategies that `step.mode` is made of: backprop (nullptr in mode zo) and queries (nullptr in mode fo).
std::unique_ptr<FirstOrder> make_backprop(const Config& config, const ModelLayout& layout, const Objective& objective);
std::unique_ptr<ZerothOrder> make_queries(const Config& config, const ModelLayout& layout, const Objective& objective, int rank, int world);

// What a run's steps and evaluations visit units with; those that its mode has no use for are nullptr.
struct Strategies {
  std::unique_ptr<Objective> query_objective;  // nullptr: the one that backprop has
  std::unique_ptr<FirstOrder> backprop;
  std::unique_ptr<Evaluate> evaluation;
  std::unique_ptr<ZerothOrder> queries;
};
// What is passed must outlive it.
Strategies make_strategies(const Config& config, const ModelDefinition& model, const ModelLayout& layout, const Objective& objective,
                           int rank, int world);

}  // namespace zerostep
