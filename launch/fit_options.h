#pragma once
#include "launch/fit.h"

namespace zerostep {

// Fills in the dimensions of a search with their options, and what the file leaves to it and keeps: FitResult::dimensions, fillable,
// chosen, kept and why_no_files. Of each dimension the simplest option stands first. There may be no placement (files are asked for, and
// none can be used); every other dimension has one option at least.
void find_options(const Subject& subject, const FitRequest& request, FitResult& result);
constexpr const char *kStage = "zero_optimization.stage", *kMicroBatch = "train_micro_batch_size_per_gpu";
// Of a file whose stage is yet to be chosen: read at stage 3, where alone everything may rest anywhere. `from` as Setting::from.
template <typename Arguments>
Arguments at_widest_stage(Arguments arguments, const char* from) {
  arguments.set.push_back({std::string(kStage) + "=3", from});
  return arguments;
}
// Every key that a search may choose.
struct FitKey {
  const char* path;
  bool has_formula;  // Hugging Face's integration fills "auto" in, from the model
};
const std::vector<FitKey>& fit_keys();
// The stage of a placement: its first setting.
int64_t stage_of(const FitOption& placement);
// Where a placement has what one of the blocks speaks of: "none", "cpu" or "nvme".
constexpr const char *kParameterBlock = "zero_optimization.offload_param", *kStateBlock = "zero_optimization.offload_optimizer";
std::string tier_of(const FitOption& placement, const std::string& block);

}  // namespace zerostep
