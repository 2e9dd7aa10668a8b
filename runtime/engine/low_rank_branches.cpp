#include "runtime/engine/low_rank_branches.h"

#include <ATen/ops/empty.h>

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

int sign_of(Weights weights) { return weights == Weights::Plus ? 1 : weights == Weights::Minus ? -1 : 0; }

// Both signs of a direction share what is drawn of it.
LowRankFactors factors_of(const Directions& directions, int64_t step, std::span<const ProbeBranch> branches, Run run,
                          const BranchedParameter& parameter) {
  const auto begin = static_cast<int64_t>(run.begin);
  LowRankFactors out =
      directions.factors(step, branches[run.begin].direction, *parameter.info, parameter.out.left.select(0, begin).data_ptr<float>(),
                         parameter.out.right.select(0, begin).data_ptr<float>());
  for (size_t b = run.begin; b < run.end; ++b) out.signs.push_back(sign_of(branches[b].weights));
  return out;
}

// The values of all vectors in one branch.
void fill_values(const Directions& directions, int64_t step, const ProbeBranch& branch, size_t index,
                 const std::vector<BranchedParameter>& parameters) {
  std::vector<Directions::Perturbed> perturbed;
  for (const BranchedParameter& p : parameters) {
    if (p.values == nullptr) continue;
    const int64_t n = p.info->num_elements();
    float* out = p.out.values.data_ptr<float>() + static_cast<int64_t>(index) * n;
    PerturbedPiece piece;
    piece.base = p.values;
    (branch.weights == Weights::Minus ? piece.minus : piece.plus) = out;
    if (branch.weights == Weights::Plain)
      directions.kernels().cast(p.values, DType::F32, out, DType::F32, n, directions.stream());
    else
      perturbed.push_back({p.info, piece});
  }
  directions.perturb(step, branch.direction, perturbed);
}

}  // namespace

BranchPerturbation::Parameter empty_branches(const Directions& directions, const ParameterInfo& info, int64_t branches) {
  const auto floats = at::TensorOptions().dtype(at::kFloat).device(at::Device(directions.device_name()));
  if (!directions.low_rank(info)) return {at::empty({branches, info.num_elements()}, floats), {}, {}, {}};
  const int64_t rank = directions.config().rank;
  return {{}, at::empty({branches, rank, info.shape[0]}, floats).transpose(1, 2), at::empty({branches, rank, info.shape[1]}, floats), {}};
}

void fill_branches(const Directions& directions, int64_t step, std::span<const ProbeBranch> branches,
                   const std::vector<BranchedParameter>& parameters) {
  std::vector<LowRankFactors> factors;
  for (const Run& run : runs_of(branches))
    for (const BranchedParameter& parameter : parameters)
      if (parameter.values == nullptr) factors.push_back(factors_of(directions, step, branches, run, parameter));
  directions.kernels().low_rank_factors(factors, directions.stream());
  for (size_t b = 0; b < branches.size(); ++b) fill_values(directions, step, branches[b], b, parameters);
}

}  // namespace zerostep
