#include "runtime/memory/workspace.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "base/content_hash.h"
#include "base/nth.h"
#include "runtime/memory/unit_cost.h"
#include "runtime/memory/unit_probe.h"
#include "runtime/memory/workspace_cache.h"

namespace zerostep {
namespace {

std::string text_of(const ActivationCost& c) {
  return fmt::format("{} {} {} {} {} {}", c.output_bytes, c.saved_bytes, c.forward_transient_bytes, c.inference_transient_bytes,
                     c.backward_transient_bytes, c.accumulating_backward_transient_bytes);
}

// The units of a model that are unlike each other, and of which kind each is.
struct UnitKinds {
  UnitKinds(const ModelDefinition& model, const Objective& objective, const WorkspaceShape& shape) {
    const auto& units = model.units();
    ContentHash hash;
    std::map<std::string, size_t> kinds;
    for (size_t u = 0; u < units.size(); ++u) {
      const ActivationCost cost = cost_of_unit(model, static_cast<int>(u), shape);
      std::string text = fmt::format("{} {}|{}", u == 0, u + 1 == units.size(), text_of(cost));
      const auto add = [&](const ParameterInfo& p) { text += fmt::format("|{}", fmt::join(p.shape, "x")); };
      for (const ParameterInfo& p : units[u].parameters) add(p);
      for (const BorrowedParameter& b : units[u].borrowed) add(nth(nth(units, b.unit).parameters, b.parameter));
      const auto [at, is_new] = kinds.emplace(text, representatives.size());
      if (is_new) {
        representatives.push_back(static_cast<int>(u));
        hash.add(text);
      }
      kind_of.push_back(at->second);
    }
    hash.add(model.hugging_face_config()).add(objective.name());
    key = hash.hex();
  }
  std::vector<int> representatives;
  std::vector<size_t> kind_of;
  std::string key;
};

// What a probe would take.
struct ProbeCost {
  double flops = 0;
  int64_t num_bytes = 0;
  bool may_run(Backend backend) const {
    return flops <= (backend == Backend::Cuda ? kMostProbeFlopsOfGpu : kMostProbeFlops) && num_bytes <= kMostProbeBytes;
  }
};

ProbeCost unit_cost(const ModelDefinition& model, const ProbedUnit& probed, const WorkspaceShape& shape) {
  const UnitInfo& unit = model.unit(probed.unit);
  const ActivationCost cost = cost_of_unit(model, probed.unit, shape);
  if (!probed.runs) return {0, cost.output_bytes};
  int64_t elements = unit.num_elements();
  for (const BorrowedParameter& b : unit.borrowed) elements += nth(model.unit(b.unit).parameters, b.parameter).num_elements();
  const int64_t weights = num_bytes(elements, shape.compute_type) + (shape.graph ? num_bytes(elements, DType::F32) : 0);
  const int64_t forward = cost.output_bytes + cost.inference_transient_bytes;
  const int64_t backward = cost.output_bytes + cost.saved_bytes + std::max(cost.forward_transient_bytes, cost.backward_transient_bytes);
  return {cost.forward_flops * (shape.graph ? kProbeForwardsWithGraph : kProbeForwards), weights + (shape.graph ? backward : forward)};
}

// Of the units and, beside the output of the last one, the objective.
ProbeCost probe_cost(const ModelDefinition& model, const std::vector<ProbedUnit>& units, const Objective& objective,
                     const WorkspaceShape& shape) {
  ProbeCost out;
  for (const ProbedUnit& probed : units) {
    const ProbeCost cost = unit_cost(model, probed, shape);
    out.flops += cost.flops;
    out.num_bytes = std::max(out.num_bytes, cost.num_bytes);
  }
  const ActivationCost last = cost_of_unit(model, units.back().unit, shape);
  const ActivationCost cost = cost_of_objective(model, objective, shape);
  const int64_t held = shape.graph ? cost.saved_bytes + std::max(cost.forward_transient_bytes, cost.backward_transient_bytes)
                                   : cost.inference_transient_bytes;
  out.num_bytes = std::max(out.num_bytes, last.output_bytes + held);
  return out;
}

// Those run of which a probe of one token may.
std::vector<ProbedUnit> choose(const ModelDefinition& model, const std::vector<int>& units, WorkspaceShape shape) {
  shape.batch = shape.sequence = 1;
  std::vector<ProbedUnit> out;
  double flops = 0;
  for (const int unit : units) {
    ProbeCost cost = unit_cost(model, {unit}, shape);
    cost.flops += flops;
    out.push_back({unit, cost.may_run(shape.backend)});
    if (out.back().runs) flops = cost.flops;
  }
  return out;
}

// The largest shape of no more tokens that may be probed: half the samples again and again, then half the tokens of one. False: none.
bool shrink(const ModelDefinition& model, const std::vector<ProbedUnit>& units, const Objective& objective, WorkspaceShape& shape) {
  for (;;) {
    if (probe_cost(model, units, objective, shape).may_run(shape.backend)) return true;
    if (shape.batch > 1)
      shape.batch /= 2;
    else if (shape.sequence > 1)
      shape.sequence /= 2;
    else
      return false;
  }
}

// The line through what two numbers of tokens take, where it rises.
int64_t carry_on(int64_t smaller, int64_t larger, double tokens, double smaller_tokens, double larger_tokens) {
  const double rise = static_cast<double>(std::max<int64_t>(0, larger - smaller)) / (larger_tokens - smaller_tokens);
  return larger + static_cast<int64_t>(rise * (tokens - larger_tokens));
}

Workspaces measured(const ModelDefinition& model, const std::vector<int>& representatives, const Objective& objective,
                    const WorkspaceShape& shape, const Device& device) {
  const std::vector<ProbedUnit> units = choose(model, representatives, shape);
  WorkspaceShape small = shape;
  if (!shrink(model, units, objective, small)) {
    Workspaces out;
    out.units.assign(units.size(), {.is_measured = false});
    out.extrapolated = true;
    return out;
  }
  Workspaces out = probe_units(model, units, objective, small, device);
  if (!out.is_known || (small.batch == shape.batch && small.sequence == shape.sequence)) return out;
  WorkspaceShape half = small;
  (half.batch > 1 ? half.batch : half.sequence) /= 2;
  out.extrapolated = true;
  if (half.batch * half.sequence == 0) return out;
  const Workspaces less = probe_units(model, units, objective, half, device);
  if (!less.is_known) return less;
  const auto tokens = [](const WorkspaceShape& s) { return static_cast<double>(s.batch * s.sequence); };
  const auto extend = [&](const Workspace& smaller, Workspace& w) {
    for (int64_t Workspace::*bytes :
         {&Workspace::inference_bytes, &Workspace::forward_bytes, &Workspace::backward_bytes, &Workspace::accumulating_backward_bytes})
      w.*bytes = carry_on(smaller.*bytes, w.*bytes, tokens(shape), tokens(half), tokens(small));
  };
  for (size_t i = 0; i < out.units.size(); ++i) extend(less.units[i], out.units[i]);
  extend(less.objective, out.objective);
  return out;
}

}  // namespace

WorkspaceMeter::WorkspaceMeter(std::string file, Device device) : file_(std::move(file)), device_(std::move(device)) {}

const Workspaces& WorkspaceMeter::workspaces_of(const ModelDefinition& model, const Objective& objective, const WorkspaceShape& shape) {
  const UnitKinds kinds(model, objective, shape);
  ContentHash hash;
  hash.add(machine_key(device_)).add(kinds.key);
  hash.add(static_cast<uint64_t>(shape.batch)).add(static_cast<uint64_t>(shape.sequence)).add(static_cast<uint64_t>(shape.compute_type));
  hash.add(static_cast<uint64_t>(shape.graph)).add(static_cast<uint64_t>(shape.training)).add(static_cast<uint64_t>(shape.takes_factors));
  const std::string key = hash.hex();
  if (const auto at = known_.find(key); at != known_.end()) return at->second;
  Workspaces kind_workspaces;
  if (file_.empty() || !recall(file_, key, kinds.representatives.size(), kind_workspaces)) {
    kind_workspaces = measured(model, kinds.representatives, objective, shape, device_);
    if (!file_.empty() && kind_workspaces.is_known) remember(file_, key, kind_workspaces);
  }
  Workspaces out = kind_workspaces;
  out.units.clear();
  for (const size_t kind : kinds.kind_of) out.units.push_back(kind_workspaces.units[kind]);
  extrapolated_ |= out.extrapolated;
  return known_.emplace(key, std::move(out)).first->second;
}

}  // namespace zerostep
