#include <fmt/format.h>
#include <fmt/ranges.h>

#include <vector>

#include "base/format.h"
#include "runtime/report/plan_report.h"

namespace zerostep {
namespace {

// What is short. Memory of the device is the host's too where the limit includes it.
struct Shortage {
  bool device = false, host = false, files = false;
  explicit Shortage(const PlanReport& report)
      : device(!report.fits_device()),
        host(report.limit.includes_host ? device && report.cost.host_peak_bytes > 0
                                        : report.cost.host_peak_bytes > report.limit.host_bytes),
        files(report.cost.file_peak_bytes > report.limit.file_bytes) {}
};

std::vector<std::string> needs(const PlanReport& report, const Shortage& shortage) {
  const PlanCost& cost = report.cost;
  const MemoryLimit& limit = report.limit;
  std::vector<std::string> out;
  if (shortage.device) {
    std::string parts = fmt::format("{} of it parameters, gradients, optimizer state and slots of the device, {} activations",
                                    human_bytes(cost.arena_bytes), human_bytes(cost.activation_peak_bytes));
    if (limit.includes_host && cost.host_peak_bytes > 0)
      parts += fmt::format(", {} what rests on the host", human_bytes(cost.host_peak_bytes));
    out.push_back(fmt::format("{} at the peak ({}), {}; there are {} ({})", human_bytes(report.needed_bytes()), cost.peak_at, parts,
                              human_bytes(limit.device_bytes), limit.source));
  }
  const auto add = [&](int64_t needed, const char* what, int64_t there) {
    out.push_back(fmt::format("{} {}; there are {} ({})", human_bytes(needed), what, human_bytes(there), limit.source));
  };
  if (shortage.host && !limit.includes_host) add(cost.host_peak_bytes, "of host memory", limit.host_bytes);
  if (shortage.files) add(cost.file_peak_bytes, "in files", limit.file_bytes);
  return out;
}

// Settings that take less of what is short, those that cost least time first.
std::vector<std::string> advice(const PlanReport& report, const Shortage& shortage) {
  const Config& config = report.config;
  const ZeroConfig& zero = config.zero;
  const Plan& plan = report.plan.any_step();
  std::vector<std::string> out;
  const auto add = [&](bool helps, const std::string& what) {
    if (helps) out.push_back(what);
  };
  add(shortage.device && zero.stage < 3 && plan.options.world > 1, fmt::format("zero_optimization.stage 3 instead of {}", zero.stage));
  add(shortage.device && zero.stage == 3 && plan.limits.max_live_parameters > zero.stage3_param_persistence_threshold,
      "lower zero_optimization.stage3_max_live_parameters and stage3_max_reuse_distance");
  add(shortage.device && config.batch.micro_batch_size > 1,
      fmt::format("train_micro_batch_size_per_gpu below {} with more gradient_accumulation_steps", config.batch.micro_batch_size));
  add(shortage.device && config.step.uses_backprop() && config.number_checkpoints == 0, "activation_checkpointing.number_checkpoints");
  add(shortage.device && report.plan.queries_per_pass > 1, fmt::format("step.queries_per_pass below {}", report.plan.queries_per_pass));
  add((shortage.device || shortage.host) && !is_16bit(config.precision.compute), "bf16.enabled");
  // Where the host's memory is the device's, the host is no other place.
  const auto tier = [&](const char* block, Tier now) {
    const bool leaves_device = now == Tier::Device && shortage.device,
               leaves_host = now == Tier::Host && (shortage.host || shortage.device);
    add(leaves_device || leaves_host,
        fmt::format("zero_optimization.{}.device{}", block, leaves_host || report.limit.includes_host ? " \"nvme\"" : ""));
  };
  if (zero.stage > 0) tier("offload_optimizer", zero.offload_optimizer.tier);
  if (zero.stage == 3) tier("offload_param", zero.offload_param.tier);
  const bool has_files = zero.offload_optimizer.tier == Tier::File || zero.offload_param.tier == Tier::File;
  add(shortage.host && has_files, "a lower buffer_count of offload_param or offload_optimizer");
  add(shortage.host && (config.run.checkpoint_interval > 0 || config.run.keep_best),
      fmt::format("run.checkpoint_interval 0{} (checkpoints are staged in memory)",
                  config.run.keep_best ? " and run.keep_best false" : ""));
  add(shortage.files, "less in files (offload_param.device, offload_optimizer.device and ratio)");
  add(true, zero.stage > 0 ? "more ranks" : "a smaller model");
  return out;
}

}  // namespace

std::string does_not_fit(const PlanReport& report) {
  const Shortage shortage(report);
  return fmt::format("{}: a rank needs {}. What helps: {}", report.config.source("run.device_memory"),
                     fmt::join(needs(report, shortage), "; and "), fmt::join(advice(report, shortage), "; "));
}

}  // namespace zerostep
