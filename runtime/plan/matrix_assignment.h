#pragma once
#include <cstdint>
#include <vector>

#include "base/nth.h"
#include "runtime/plan/model_layout.h"

namespace zerostep {

struct PlanOptions;

// Matrix optimizers (Muon, MuDaMW) need a parameter whole. Each one is assigned to one rank, its owner, which keeps its optimizer state and
// works out its update; what moves is the reduced gradient to the owner, where there is one, and the result to the ranks that hold the
// weights.
struct AssignedParameter {
  int group = 0, parameter = 0;  // index within the group's layout
  int owner = 0;                 // rank
  int64_t rows = 0, columns = 0;
  bool orthogonal = false;   // a matrix whose update is made orthogonal; else assigned because something is counted over all of it
  int64_t state_offset = 0;  // elements: in each array of the owner's state
  int64_t work_offset = 0;   // elements: in the owner's workspace while its round lasts
  int64_t held = 0;          // elements that rank 0 holds and updates
  int64_t num_elements() const { return rows * columns; }
};

// Who does what, balanced by cost, as data. Rounds bound the workspace: in each of them an owner works on about as many elements as the
// largest parameter has. In a wave results move, as many as the space for them holds.
struct MatrixAssignment {
  std::vector<AssignedParameter> parameters;
  struct Round {
    std::vector<int> parameters;          // indices, all owners'
    std::vector<std::vector<int>> waves;  // the same, in order
  };
  std::vector<Round> rounds;
  // Of a round, or of one of its waves.
  const std::vector<int>& parameters_in(int round, int wave = -1) const {
    const Round& all = nth(rounds, round);
    return wave < 0 ? all.parameters : nth(all.waves, wave);
  }
  // Elements of the largest rank: state (of one value), workspace, results that arrive in one wave, what the iterations need besides.
  int64_t state_elements = 0, work_elements = 0, result_elements = 0, scratch_elements = 0;

  bool empty() const { return parameters.empty(); }
};

MatrixAssignment assign_matrices(const ModelLayout& layout, const PlanOptions& options);

// Multiply-adds, counted two, of the update of one parameter.
double update_flops(const AssignedParameter& parameter);

}  // namespace zerostep
