#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <initializer_list>
#include <vector>

#include "base/blas_workspace.h"
#include "base/format.h"
#include "runtime/plan/state_chunks.h"
#include "runtime/report/plan_report.h"
#include "runtime/report/plan_tables.h"

namespace zerostep {
namespace {

// What is short. Memory of the device is the host's too where the limit includes it: then the host is no other place.
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
    if (cost.blas_bytes > 0) parts += fmt::format(", {} workspace of cuBLAS ({})", human_bytes(cost.blas_bytes), kBlasWorkspaceVariable);
    if (cost.piece_bytes > 0)
      parts += fmt::format(", {} for the pieces in which LibTorch takes memory of a GPU", human_bytes(cost.piece_bytes));
    if (limit.includes_host && cost.host_peak_bytes > 0)
      parts += fmt::format(", {} what rests on the host", human_bytes(cost.host_peak_bytes));
    const ComparedBytes bytes = compared_bytes(report.needed_bytes(), limit.device_bytes);
    out.push_back(fmt::format("{} at the peak ({}), {}; there are {} ({}): {} are missing", bytes.one, cost.peak_at, parts, bytes.other,
                              limit.source, human_bytes(report.needed_bytes() - limit.device_bytes)));
  }
  const auto add = [&](int64_t needed, const char* what, int64_t there, const std::string& source) {
    const ComparedBytes bytes = compared_bytes(needed, there);
    out.push_back(
        fmt::format("{} {}; there are {} ({}): {} are missing", bytes.one, what, bytes.other, source, human_bytes(needed - there)));
  };
  if (shortage.host && !limit.includes_host) add(cost.host_peak_bytes, "of host memory", limit.host_bytes, limit.source);
  if (shortage.files) add(cost.file_peak_bytes, "in files", limit.file_bytes, limit.source_of_files());
  return out;
}

// Bytes of a tier that 16-bit parameters, slots and activations would save, less the fp32 masters that come.
int64_t saved_in_16_bits(const PlanReport& report, Tier tier) {
  const Plan& plan = report.plan.any_step();
  int64_t saved = bytes_in(plan, tier, {BufferKind::Parameters, BufferKind::ParameterSlot, BufferKind::WeightCopies}) / 2;
  if (tier == Tier::Device) saved += report.cost.activation_peak_bytes / 2;
  for (const FlatGroup& g : report.plan.layout.groups)
    if (g.trainable && plan.options.masters && g.state_tier == tier) saved -= num_bytes(state_chunks(g, plan).part, DType::F32);
  return saved;
}

// Whether they save some of what is short, and no tier that is short gets more.
bool helps_in_16_bits(const PlanReport& report, const Shortage& shortage) {
  const int64_t device = saved_in_16_bits(report, Tier::Device), host = saved_in_16_bits(report, Tier::Host);
  if (shortage.files && saved_in_16_bits(report, Tier::File) < 0) return false;
  if (report.limit.includes_host) return shortage.device && device + host > 0;
  return (shortage.device || shortage.host) && (!shortage.device || device > 0) && (!shortage.host || host > 0);
}

// Whether something of these kinds can leave a tier. Whole matrices have no place in files; what every rank keeps whole stays on the
// device.
bool can_leave(const PlanReport& report, Tier tier, bool to_files, std::initializer_list<BufferKind> kinds) {
  const std::vector<PlannedBuffer>& buffers = report.plan.any_step().buffers;
  return std::any_of(buffers.begin(), buffers.end(), [&](const PlannedBuffer& b) {
    if (b.tier != tier || std::find(kinds.begin(), kinds.end(), b.id.kind) == kinds.end()) return false;
    if (b.id.kind == BufferKind::MatrixState) return !to_files;
    const FlatGroup& group = report.plan.layout.group(b.id.index);
    if (b.id.kind == BufferKind::Parameters && group.persistent) return false;
    if (b.id.kind == BufferKind::Gradients && report.config.zero.stage < 2) return false;
    return !(to_files && group.assigned);
  });
}

// Settings that take less of what is short, those that cost least time first.
std::vector<std::string> advice(const PlanReport& report, const Shortage& shortage) {
  const Config& config = report.config;
  const ZeroConfig& zero = config.zero;
  const Plan& plan = report.plan.any_step();
  const std::vector<FlatGroup>& groups = report.plan.layout.groups;
  std::vector<std::string> out;
  const auto add = [&](bool helps, const std::string& what) {
    if (helps) out.push_back(what);
  };
  // What is gathered and kept, or waits for its reduction, takes as much as what would rest whole.
  const char* less_live =
      zero.stage3_max_live_parameters >= report.plan.layout.num_elements() ? " with a lower stage3_max_live_parameters" : "";
  add(shortage.device && zero.stage < 3 && plan.options.world > 1,
      fmt::format("zero_optimization.stage 3 instead of {}{}", zero.stage,
                  std::max(zero.stage3_max_live_parameters, zero.reduce_bucket_size) >= report.plan.layout.num_elements()
                      ? " with lower stage3_max_live_parameters and reduce_bucket_size"
                      : ""));
  add(shortage.device && !plan.parameter_rings.empty() && plan.limits.max_live_parameters > zero.stage3_param_persistence_threshold,
      "lower zero_optimization.stage3_max_live_parameters and stage3_max_reuse_distance");
  add(shortage.device && std::any_of(plan.gradient_rings.begin(), plan.gradient_rings.end(),
                                     [&](const RingPlan& r) { return r.num_slots > (plan.options.overlap ? 2 : 1); }),
      fmt::format("zero_optimization.reduce_bucket_size below {}", std::min(zero.reduce_bucket_size, report.plan.layout.num_elements())));
  const bool shards = plan.options.world > 1 || zero.offload_param.tier != Tier::Device;
  add(shortage.device && zero.stage == 3 && shards &&
          std::any_of(groups.begin(), groups.end(), [](const FlatGroup& g) { return g.persistent; }),
      fmt::format("zero_optimization.stage3_param_persistence_threshold below {}{}", zero.stage3_param_persistence_threshold, less_live));
  add(shortage.device && config.batch.micro_batch_size > 1,
      fmt::format("train_micro_batch_size_per_gpu below {} with more gradient_accumulation_steps", config.batch.micro_batch_size));
  add(shortage.device && config.step.uses_backprop() && config.number_checkpoints == 0, "activation_checkpointing.number_checkpoints");
  add(shortage.device && report.plan.queries_per_pass > 1, fmt::format("step.queries_per_pass below {}", report.plan.queries_per_pass));
  add(!is_16bit(config.precision.compute) && helps_in_16_bits(report, shortage), "bf16.enabled");
  const auto tier = [&](const char* block, Tier now, std::initializer_list<BufferKind> kinds, const char* also = "") {
    const bool is_short = (now == Tier::Device && shortage.device) || (now == Tier::Host && shortage.host);
    const bool to_files = now == Tier::Host || report.limit.includes_host;
    add(is_short && can_leave(report, now, to_files, kinds),
        fmt::format("zero_optimization.{}.device{}{}", block, to_files ? " \"nvme\"" : "", also));
  };
  if (zero.stage > 0)
    tier("offload_optimizer", zero.offload_optimizer.tier, {BufferKind::UpdateState, BufferKind::MatrixState, BufferKind::Gradients});
  if (zero.stage == 3) tier("offload_param", zero.offload_param.tier, {BufferKind::Parameters}, shards ? "" : less_live);
  add(shortage.host && zero.offload_param.tier == Tier::File && zero.offload_param.max_in_cpu > 0,
      fmt::format("zero_optimization.offload_param.max_in_cpu below {}", zero.offload_param.max_in_cpu));
  add(shortage.host &&
          std::any_of(plan.staging_rings.begin(), plan.staging_rings.end(), [](const StagingRing& r) { return r.num_slots > 1; }),
      "a lower buffer_count of offload_param or offload_optimizer");
  add(shortage.host && !report.limit.includes_host && bytes_in(plan, Tier::Host, {BufferKind::Checkpoint}) > 0,
      "activation_checkpointing.cpu_checkpointing false");
  add(shortage.host && report.staging_bytes() > 0, fmt::format("run.checkpoint_interval 0{} (checkpoints are staged in memory)",
                                                               config.run.keep_best ? " and run.keep_best false" : ""));
  add(shortage.files && !report.limit.file_source.empty(), "space on that disk, or an nvme_path on another");
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
