#include "runtime/plan/matrix_assignment.h"

#include <algorithm>
#include <numeric>

#include "base/nth.h"
#include "offload/newton_schulz.h"
#include "runtime/plan/plan.h"

namespace zerostep {
namespace {

constexpr double kFlopsAnElement = 20;  // moments, scaling

std::vector<AssignedParameter> assigned_parameters(const ModelLayout& layout) {
  std::vector<AssignedParameter> out;
  for (const FlatGroup& g : layout.groups) {
    if (!g.assigned) continue;
    for (size_t i = 0; i < g.parameters.size(); ++i) {
      const ParameterInfo& info = layout.parameter(g, static_cast<int>(i));
      AssignedParameter p;
      p.group = g.id;
      p.parameter = static_cast<int>(i);
      p.orthogonal = layout.options.is_orthogonal(info);
      p.rows = info.shape.size() == 2 ? info.shape[0] : 1;
      p.columns = info.num_elements() / std::max<int64_t>(1, p.rows);
      if (p.num_elements() > 0) out.push_back(p);
    }
  }
  return out;
}

// Elements of each parameter that each rank holds: received[parameter][rank].
using Shares = std::vector<std::vector<int64_t>>;
Shares shares_of(const ModelLayout& layout, const PlanOptions& options, const MatrixAssignment& assignment) {
  const int ranks = layout.options.shard_ranks;
  Shares out(assignment.parameters.size(), std::vector<int64_t>(static_cast<size_t>(ranks), 0));
  int group = -1;
  std::vector<std::vector<FlatLayout::Piece>> pieces;
  for (size_t p = 0; p < assignment.parameters.size(); ++p) {
    const AssignedParameter& parameter = assignment.parameters[p];
    if (updates_whole(options)) {
      std::fill(out[p].begin(), out[p].end(), parameter.num_elements());
      continue;
    }
    if (parameter.group != group) {
      group = parameter.group;
      pieces.clear();
      for (int r = 0; r < ranks; ++r) pieces.push_back(layout.group(group).layout.pieces(r));
    }
    for (int r = 0; r < ranks; ++r)
      for (const FlatLayout::Piece& piece : nth(pieces, r))
        if (piece.parameter == parameter.parameter) nth(out[p], r) += piece.count;
  }
  return out;
}

void assign_to_owners(MatrixAssignment& assignment, int ranks) {
  // The dearest first, each to the rank with least to do.
  std::vector<int> order(assignment.parameters.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](int a, int b) { return update_flops(nth(assignment.parameters, a)) > update_flops(nth(assignment.parameters, b)); });
  std::vector<double> load(static_cast<size_t>(ranks), 0.0);
  std::vector<int64_t> state(static_cast<size_t>(ranks), 0);
  std::vector<int64_t> filled(static_cast<size_t>(ranks), 0);
  std::vector<size_t> round_of(static_cast<size_t>(ranks), 0);
  for (const AssignedParameter& p : assignment.parameters) assignment.work_elements = std::max(assignment.work_elements, p.num_elements());
  for (int index : order) {
    AssignedParameter& p = nth(assignment.parameters, index);
    const size_t owner = static_cast<size_t>(std::min_element(load.begin(), load.end()) - load.begin());
    p.owner = static_cast<int>(owner);
    load[owner] += update_flops(p);
    p.state_offset = state[owner];
    state[owner] += p.num_elements();
    if (filled[owner] > 0 && filled[owner] + p.num_elements() > assignment.work_elements) {
      filled[owner] = 0;
      ++round_of[owner];
    }
    p.work_offset = filled[owner];
    filled[owner] += p.num_elements();
    if (assignment.rounds.size() <= round_of[owner]) assignment.rounds.resize(round_of[owner] + 1);
    assignment.rounds[round_of[owner]].parameters.push_back(index);
  }
  assignment.state_elements = *std::max_element(state.begin(), state.end());
}

void make_waves(MatrixAssignment& assignment, const Shares& shares, int ranks) {
  for (MatrixAssignment::Round& round : assignment.rounds) {
    std::vector<int64_t> arriving;
    for (int index : round.parameters) {
      const AssignedParameter& p = nth(assignment.parameters, index);
      std::vector<int64_t> more = nth(shares, index);
      nth(more, p.owner) = 0;  // its own share stays where it is made
      bool fits = !arriving.empty();
      for (int r = 0; fits && r < ranks; ++r) fits = nth(arriving, r) + nth(more, r) <= assignment.work_elements;
      if (!fits) {
        round.waves.emplace_back();
        arriving.assign(static_cast<size_t>(ranks), 0);
      }
      round.waves.back().push_back(index);
      for (size_t r = 0; r < arriving.size(); ++r) {
        arriving[r] += more[r];
        assignment.result_elements = std::max(assignment.result_elements, arriving[r]);
      }
    }
  }
}

}  // namespace

double update_flops(const AssignedParameter& p) {
  const double large = static_cast<double>(std::max(p.rows, p.columns)), small = static_cast<double>(std::min(p.rows, p.columns));
  const double products = p.orthogonal ? kNewtonSchulzSteps * (4 * small * small * large + 2 * small * small * small) : 0;
  return products + kFlopsAnElement * static_cast<double>(p.num_elements());
}

MatrixAssignment assign_matrices(const ModelLayout& layout, const PlanOptions& options) {
  MatrixAssignment assignment;
  assignment.parameters = assigned_parameters(layout);
  if (assignment.empty()) return assignment;
  const int ranks = layout.options.shard_ranks;
  assign_to_owners(assignment, ranks);
  const Shares shares = shares_of(layout, options, assignment);
  make_waves(assignment, shares, ranks);
  for (size_t i = 0; i < shares.size(); ++i) {
    AssignedParameter& p = assignment.parameters[i];
    p.held = shares[i].front();
    if (p.orthogonal) assignment.scratch_elements = std::max(assignment.scratch_elements, newton_schulz_scratch(p.rows, p.columns));
  }
  return assignment;
}

}  // namespace zerostep
