#pragma once
#include <vector>

#include "models/batch.h"

namespace zerostep {

// Samples of branches [begin, begin + count) of a tensor that holds `branches` of them one after the other: a view.
at::Tensor samples_of_branches(const at::Tensor& all, size_t begin, size_t count, size_t branches);

// What the branches of a pass hand from unit to unit, per micro-batch. As long as nothing tells them apart, branches share the states of
// their batch. Afterwards a tensor holds the states of one branch, or of several that ran together, one after the other: both signs of a
// direction, or all branches. Whoever takes states names the branches that it runs together, and gets one tensor of them, whatever form
// they were left in; each branch's are taken once and put once a unit. A unit's states are a list of at most one tensor, empty before the
// first unit. One thread.
class BranchStates {
 public:
  // Batches on which nothing has run yet; branches that there were are gone.
  void begin_batches(size_t batches, size_t micro_batches);
  // Branch b begins with what is shared of batch `batch_of_branch[b]`.
  void begin_branches(std::vector<size_t> batch_of_branch);
  // The branches' states go; what is shared stays.
  void end_branches();
  void drop_shared() { shared_.clear(); }
  // Everything goes.
  void reset();

  size_t num_branches() const { return batch_of_branch_.size(); }
  size_t batch_of(size_t branch) const { return batch_of_branch_[branch]; }

  // Of a batch, for units that run once for all of its branches; to be replaced by what they make of it.
  TensorList& shared(size_t batch, size_t micro_batch) { return shared_[batch][micro_batch]; }
  // Of branches [begin, end). Those that come in several tensors are copied into one.
  TensorList take(size_t begin, size_t end, size_t micro_batch);
  // Of branches [begin, end) as part of one tensor of all branches, which stays here until put() replaces it.
  TensorList view(size_t begin, size_t end, size_t micro_batch);
  void put(size_t begin, size_t end, size_t micro_batch, TensorList states);

 private:
  struct Run {
    size_t begin, end;  // branches
    bool is_shared;     // the states are the batch's
    at::Tensor states = {};
  };
  using Runs = std::vector<Run>;  // of a micro-batch, in the order of the branches, all of them

  // Cuts the run that goes on over the begin of a branch, if there is one, into its branches.
  static void cut_before(Runs& runs, size_t branch);

  std::vector<size_t> batch_of_branch_;
  std::vector<std::vector<TensorList>> shared_;  // [batch][micro-batch]
  std::vector<Runs> runs_;                       // [micro-batch]
};

}  // namespace zerostep
