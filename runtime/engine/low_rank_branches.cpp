#include "runtime/engine/low_rank_branches.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>

#include <algorithm>
#include <functional>

namespace zerostep {
namespace {

using Weights = ProbeBranch::Weights;

// Branches [begin, end) look along one direction.
struct Run {
  size_t begin, end;
};
std::vector<Run> runs_of(std::span<const ProbeBranch> branches) {
  std::vector<Run> out;
  for (size_t b = 0; b < branches.size(); ++b) {
    if (b == 0 || branches[b].direction != branches[b - 1].direction) out.push_back({b, b});
    ++out.back().end;
  }
  return out;
}

void fill_values(const Directions& directions, int64_t step, const ProbeBranch& branch, const BranchedParameter& parameter, size_t index) {
  const int64_t n = parameter.info->num_elements();
  float* out = parameter.out.values.data_ptr<float>() + static_cast<int64_t>(index) * n;
  if (branch.weights == Weights::Plain) {
    std::copy_n(parameter.values, n, out);
    return;
  }
  PerturbSlice slice;
  slice.base = parameter.values;
  (branch.weights == Weights::Plus ? slice.plus : slice.minus) = out;
  const Directions::Perturbed perturbed{parameter.info, slice};
  directions.perturb(step, branch.direction, {&perturbed, 1});
}

// Both signs of a direction have its right factor, and left factors of opposite signs.
void fill_factors(const Directions& directions, int64_t step, std::span<const ProbeBranch> branches, Run run,
                  const BranchedParameter& parameter) {
  const int64_t rank = parameter.out.right.size(1), left_size = rank * parameter.info->shape[0],
                right_size = rank * parameter.info->shape[1];
  std::vector<float> left(static_cast<size_t>(left_size)), right(static_cast<size_t>(right_size));
  const auto perturbed = [](const ProbeBranch& b) { return b.weights != Weights::Plain; };
  const auto of_run = branches.subspan(run.begin, run.end - run.begin);
  if (std::any_of(of_run.begin(), of_run.end(), perturbed))
    directions.factors(step, of_run.front().direction, *parameter.info, left.data(), right.data());
  for (size_t b = run.begin; b < run.end; ++b) {
    const auto index = static_cast<int64_t>(b);
    float* left_out = parameter.out.left.data_ptr<float>() + index * left_size;
    std::copy(right.begin(), right.end(), parameter.out.right.data_ptr<float>() + index * right_size);
    if (branches[b].weights == Weights::Plus)
      std::copy(left.begin(), left.end(), left_out);
    else if (branches[b].weights == Weights::Minus)
      std::transform(left.begin(), left.end(), left_out, std::negate<>());
    else
      std::fill_n(left_out, left_size, 0.0f);
  }
}

}  // namespace

BranchPerturbation::Parameter empty_branches(const Directions& directions, const ParameterInfo& info, int64_t branches) {
  if (!directions.low_rank(info)) return {at::empty({branches, info.num_elements()}, at::kFloat), {}, {}, {}};
  const int64_t rank = directions.config().rank;
  return {{},
          at::empty({branches, rank, info.shape[0]}, at::kFloat).transpose(1, 2),
          at::empty({branches, rank, info.shape[1]}, at::kFloat),
          {}};
}

void fill_branches(const Directions& directions, int64_t step, std::span<const ProbeBranch> branches,
                   const std::vector<BranchedParameter>& parameters) {
  const std::vector<Run> runs = runs_of(branches);
  const size_t count = parameters.size();
  at::parallel_for(0, static_cast<int64_t>(runs.size() * count), 1, [&](int64_t first, int64_t last) {
    for (auto task = static_cast<size_t>(first); task < static_cast<size_t>(last); ++task) {
      const Run run = runs[task / count];
      const BranchedParameter& parameter = parameters[task % count];
      if (parameter.values == nullptr)
        fill_factors(directions, step, branches, run, parameter);
      else
        for (size_t b = run.begin; b < run.end; ++b) fill_values(directions, step, branches[b], parameter, b);
    }
  });
}

}  // namespace zerostep
