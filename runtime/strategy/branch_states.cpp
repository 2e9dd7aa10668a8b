#include "runtime/strategy/branch_states.h"

#include <ATen/ops/cat.h>

#include <algorithm>
#include <iterator>

#include "base/error.h"

namespace zerostep {

at::Tensor samples_of_branches(const at::Tensor& all, size_t begin, size_t count, size_t branches) {
  const int64_t samples = all.size(0) / static_cast<int64_t>(branches);
  return all.narrow(0, static_cast<int64_t>(begin) * samples, static_cast<int64_t>(count) * samples);
}

void BranchStates::begin_batches(size_t batches, size_t micro_batches) {
  reset();
  shared_.assign(batches, std::vector<TensorList>(micro_batches));
}

void BranchStates::begin_branches(std::vector<size_t> batch_of_branch) {
  batch_of_branch_ = std::move(batch_of_branch);
  end_branches();
}

void BranchStates::end_branches() {
  Runs runs;
  for (size_t b = 0; b < num_branches(); ++b) runs.push_back({b, b + 1, true});
  runs_.assign(shared_.empty() ? 0 : shared_[0].size(), runs);
}

void BranchStates::reset() {
  batch_of_branch_.clear();
  shared_.clear();
  runs_.clear();
}

void BranchStates::cut_before(Runs& runs, size_t branch) {
  const auto at = std::find_if(runs.begin(), runs.end(), [&](const Run& run) { return run.begin < branch && branch < run.end; });
  if (at == runs.end()) return;
  const Run whole = std::move(*at);
  Runs cut;
  for (size_t b = whole.begin; b < whole.end; ++b)
    cut.push_back({b, b + 1, false,
                   whole.states.defined() ? samples_of_branches(whole.states, b - whole.begin, 1, whole.end - whole.begin) : at::Tensor()});
  runs.insert(runs.erase(at), std::make_move_iterator(cut.begin()), std::make_move_iterator(cut.end()));
}

TensorList BranchStates::take(size_t begin, size_t end, size_t micro_batch) {
  Runs& runs = runs_[micro_batch];
  cut_before(runs, begin);
  cut_before(runs, end);
  TensorList parts;
  for (Run& run : runs) {
    if (run.begin < begin || run.end > end) continue;
    if (run.is_shared) {
      const TensorList& states = shared(batch_of(run.begin), micro_batch);
      parts.insert(parts.end(), states.begin(), states.end());
    } else if (run.states.defined()) {
      parts.push_back(std::move(run.states));
    } else {
      fail_protocol("[branches] the states of branch {} of micro-batch {} were taken before", run.begin, micro_batch);
    }
  }
  if (parts.size() > 1) parts = {at::cat(parts, 0)};
  return parts;
}

TensorList BranchStates::view(size_t begin, size_t end, size_t micro_batch) {
  TensorList all = take(0, num_branches(), micro_batch);
  if (all.empty()) return all;
  put(0, num_branches(), micro_batch, all);
  if (end - begin < num_branches()) all = {samples_of_branches(all[0], begin, end - begin, num_branches())};
  return all;
}

void BranchStates::put(size_t begin, size_t end, size_t micro_batch, TensorList states) {
  Runs& runs = runs_[micro_batch];
  cut_before(runs, begin);
  cut_before(runs, end);
  std::erase_if(runs, [&](const Run& run) { return run.begin >= begin && run.end <= end; });
  const auto behind = std::find_if(runs.begin(), runs.end(), [&](const Run& run) { return run.begin >= end; });
  runs.insert(behind, {begin, end, false, std::move(states.at(0))});
}

}  // namespace zerostep
