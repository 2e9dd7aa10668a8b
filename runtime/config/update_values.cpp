#include <algorithm>
#include <array>

#include "runtime/config/values.h"

namespace zerostep::schema {
namespace {

// Keys of `optimizer` and `step` on which the update does not depend beside what the log holds of a step: its scalars, its learning rate,
// the factor that clips it, and whether it was skipped.
constexpr std::array<std::string_view, 14> kToldByTheLog{"optimizer.params.lr",
                                                         "step.objective",
                                                         "step.queries",
                                                         "step.queries_per_pass",
                                                         "step.epsilon",
                                                         "step.estimator",
                                                         "step.direction_parallel",
                                                         "step.query_data",
                                                         "step.query_batch_size",
                                                         "step.query_sequence_length",
                                                         "step.bp_batch_size",
                                                         "step.bp_data",
                                                         "step.exact_norm",
                                                         "step.monitor_interval"};

// A schedule makes the learning rate, which the log has; OneCycle moves the betas too.
bool moves_betas(const Values& values) {
  const Value *type = values.find("scheduler.type"), *moves = values.find("scheduler.params.cycle_momentum");
  return type != nullptr && type->value == "OneCycle" && moves != nullptr && moves->effective && moves->value == true;
}

// Weights that rest in 16 bit are rounded to their type.
bool rounds_weights(const Values& values) {
  const Value* masters = values.find("step.master_weights");
  return masters != nullptr && masters->effective && masters->value == "none";
}

}  // namespace

std::string update_values(const Values& values) {
  const bool betas = moves_betas(values), rounding = rounds_weights(values);
  nlohmann::json out = nlohmann::json::object();
  for (const auto& [path, value] : values.all()) {
    if (!value.effective || std::find(kToldByTheLog.begin(), kToldByTheLog.end(), path) != kToldByTheLog.end()) continue;
    if (path.starts_with("optimizer.") || path.starts_with("step.") || path == "model.trainable" ||
        (betas && path.starts_with("scheduler.")) || (rounding && (path == "fp16.enabled" || path == "bf16.enabled")))
      out[path] = value.value;
  }
  return out.dump();
}

}  // namespace zerostep::schema
