#include "runtime/engine/training_plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "base/error.h"
#include "base/format.h"
#include "runtime/optim/optimizer.h"
#include "runtime/plan/check_patterns.h"
#include "runtime/plan/cost.h"
#include "runtime/strategy/instruction.h"
#include "runtime/strategy/make_strategy.h"

namespace zerostep {
namespace {

// Evaluation runs in the rings that training has.
bool fits(const Plan& evaluate, const Plan& train) {
  for (size_t g = 0; g < train.parameter_ring_of.size(); ++g)
    if (evaluate.parameter_ring_of[g] != train.parameter_ring_of[g]) return false;
  for (size_t r = 0; r < train.parameter_rings.size(); ++r)
    if (evaluate.parameter_rings[r].num_slots > train.parameter_rings[r].num_slots) return false;
  return true;
}

// Where weights rest in another type than the one that computes, each visit makes a copy of those of its unit.
std::vector<Visit> add_weight_copies(const ModelLayout& layout, std::vector<Visit> visits) {
  for (Visit& visit : visits) {
    if (!reads_parameters(layout, visit)) continue;
    for (int g : layout.used_by(visit.unit)) {
      const FlatGroup& group = layout.group(g);
      if (group.type != group.compute_type) visit.weight_copies = std::max(visit.weight_copies, 1);
    }
  }
  return visits;
}

Plan plan_queries(const Config& config, const ModelLayout& layout, const Objective& objective, int world, int64_t per_pass,
                  const PlanOptions& options, bool instructed = false) {
  Config with = config;
  with.step.queries_per_pass = per_pass;
  PlanOptions query_options = options;
  query_options.agreement = Agreement::Losses;
  query_options.summed_scalars = 3 * config.step.queries;
  query_options.gradient_in_update = instructed;
  const auto queries = make_queries(with, layout, objective, 0, world);
  const int micro_batches = static_cast<int>(config.step.query_batch.accumulation_steps);
  return make_plan(layout,
                   add_weight_copies(layout, instructed ? queries->instructed_visits(micro_batches) : queries->visits(micro_batches)),
                   query_options);
}

// Directions that share a gather, or large products where they are low-rank: as many as memory allows. Elsewhere one at a time costs the
// same and holds least.
int64_t choose_per_pass(const Config& config, const ModelDefinition& model, const Objective& objective, int world,
                        const PlanOptions& options, const ModelLayout& layout) {
  // Of run.device_memory. The rest is left to what the libraries take for themselves, which is not the same on every machine.
  constexpr double kShareOfLimit = 0.9;
  constexpr double kMoreMemory = 1.25;  // without a limit: than one direction a pass takes
  if (config.step.queries_per_pass > 0) return config.step.queries_per_pass;
  const bool instructed = config.step.mode == StepConfig::Mode::Instruct;
  const bool gains = (world > 1 && (config.zero.stage == 3 || (instructed && config.zero.stage > 0))) ||
                     config.zero.offload_param.tier != Tier::Device || config.step.perturbation == StepConfig::Perturbation::LowRank;
  const StepLoads loads(config, model, objective);
  int64_t chosen = 1, limit = static_cast<int64_t>(kShareOfLimit * static_cast<double>(config.run.device_memory));
  for (int64_t k = 1; gains && k <= query_share(config.step, 0, world).num_directions; k *= 2) {
    const Plan plan = plan_queries(config, layout, objective, world, k, options);
    const int64_t peak = estimate_cost(plan, layout, model, loads).device_needed_bytes();
    if (k == 1 && limit == 0) limit = static_cast<int64_t>(kMoreMemory * static_cast<double>(peak));
    if (k > 1 && peak > limit) break;
    chosen = k;
  }
  return chosen;
}

// Bytes of each unit's input that waits for its recomputation in memory of the host; none: all wait on the device.
std::vector<int64_t> host_checkpoints(const Config& config, const ModelDefinition& model, const Objective& objective,
                                      const ModelLayout& layout) {
  constexpr int64_t kMostTensors = 4;  // of an input: each begins at an alignment boundary
  const auto backprop = make_backprop(config, layout, objective);
  if (!config.cpu_checkpointing || !backprop) return {};
  std::vector<int64_t> out(layout.units.size(), 0);
  for (const Visit& visit : backprop->visits(1))
    if (visit.keep_input && visit.unit > 0)
      nth(out, visit.unit) =
          model
              .activation_cost(visit.unit - 1, {config.batch.micro_batch_size, config.data.sequence_length, config.precision.compute, true})
              .output_bytes +
          kMostTensors * kAlignmentBytes;
  return out;
}

// The parts that steps are made of: the queries of random directions, backprop, and the queries whose directions are made of its gradient.
struct StepParts {
  std::optional<Plan> queries, backprop, instructed;
};

// A plan names every visit of a unit.
void require_plannable(const Config& config, const ModelLayout& layout) {
  constexpr double kMostVisits = 4e6;
  const auto units = static_cast<double>(layout.units.size());
  const double backprop = config.step.uses_backprop() ? 2.0 * static_cast<double>(config.batch.accumulation_steps) : 0;
  const auto batches = static_cast<double>(config.step.query_batch.accumulation_steps);
  const double queries = config.step.uses_queries() ? 2.0 * static_cast<double>(config.step.queries) * batches : 0;
  if (units * (backprop + queries) > kMostVisits)
    fail_input("a step of {} micro-batches{} visits units {:.2g} times, more than the {:.0g} that a step may: take larger micro-batches",
               grouped(static_cast<int64_t>(config.step.uses_backprop() ? config.batch.accumulation_steps : batches)),
               config.step.uses_queries() ? fmt::format(" and {} queries", grouped(config.step.queries)) : "", units * (backprop + queries),
               kMostVisits);
}

StepParts plan_parts(const Config& config, const Objective& objective, int world, const PlanOptions& options, const TrainingPlan& plan) {
  require_plannable(config, plan.layout);
  StepParts parts;
  if (const auto backprop = make_backprop(config, plan.layout, objective))
    parts.backprop = make_plan(
        plan.layout, add_weight_copies(plan.layout, backprop->visits(static_cast<int>(config.batch.accumulation_steps))), options);
  if (config.step.uses_queries()) {
    parts.queries = plan_queries(config, plan.layout, objective, world, plan.queries_per_pass, options);
    if (parts.backprop && config.step.mode == StepConfig::Mode::Instruct)
      parts.instructed = plan_queries(config, plan.layout, objective, world, plan.queries_per_pass, options, true);
  }
  std::vector<Plan*> plans;
  for (std::optional<Plan>* part : {&parts.queries, &parts.backprop, &parts.instructed})
    if (*part) plans.push_back(&**part);
  share_memory(plan.layout, plans);
  return parts;
}

// Whether a step gains when its update stands elsewhere than at its end.
bool gains_elsewhere(const Config& config, const StepKind& kind) {
  if (kind.update == StepKind::Update::Gradient) return config.zero.offload_optimizer.tier != Tier::Device;
  if (config.step.uses_backprop()) return false;
  // Parameters come from files, or to a GPU, once for the update and the queries behind it; a GPU works beside the host that updates.
  const Tier parameters = config.zero.offload_param.tier, state = config.zero.offload_optimizer.tier;
  return parameters == Tier::File || (config.run.device == "cuda" && (parameters != Tier::Device || state != Tier::Device));
}

// Whether it may.
bool may_defer(const Config& config, const StepParts& parts, const StepKind& kind) {
  const bool clips_estimate = kind.update != StepKind::Update::Gradient && config.gradient_clipping > 0;
  const Plan& any = parts.backprop ? *parts.backprop : *parts.queries;
  return any.matrices.empty() && !clips_estimate;
}

// Whether it may be made before the gradient is complete.
bool may_update_in_backward(const Config& config, const StepParts& parts) {
  return !config.step.uses_queries() && parts.backprop->matrices.empty() && config.gradient_clipping == 0 &&
         !config.precision.skips_overflow();
}

void compose_steps(const Config& config, const StepParts& parts, std::optional<Updates> updates, TrainingPlan& plan) {
  const std::vector<StepKind> kinds = step_kinds(config.step);
  const auto gains = [&](const StepKind& kind, Updates by) { return updates ? *updates == by : gains_elsewhere(config, kind); };
  const bool may_in_backward = may_update_in_backward(config, parts);
  const auto in_backward = [&](const StepKind& kind) { return may_in_backward && gains(kind, Updates::InBackward); };
  const auto defers = [&](const StepKind& kind) {
    return !in_backward(kind) && may_defer(config, parts, kind) && gains(kind, Updates::Deferred);
  };
  const bool pends = std::any_of(kinds.begin(), kinds.end(), defers);
  const auto reads_gradient = [](const StepKind& kind) { return kind.update == StepKind::Update::Gradient || kind.instructed; };
  const bool pending_reads = std::any_of(kinds.begin(), kinds.end(), [&](const StepKind& k) { return defers(k) && reads_gradient(k); });
  for (const StepKind& kind : kinds) {
    const Plan* backprop = kind.backprop ? &*parts.backprop : nullptr;
    const Plan* queries = !kind.queries ? nullptr : kind.instructed ? &*parts.instructed : &*parts.queries;
    const bool follows_gradient = kind.update == StepKind::Update::Gradient;
    const StepConfig& step = config.step;
    // Products with each direction and the energy kept, and the histograms that its threshold is found with.
    const int64_t instruction = kind.instructed ? 2 * step.queries + 1 + (step.instruct.energy ? 2 * EnergyHistogram::kBins : 0) : 0;
    const int64_t estimate = kind.backprop ? kCosineScalars : step.exact_norm ? 1 : 0;
    plan.steps.push_back({kind, compose(plan.layout, {backprop, queries, follows_gradient ? *backprop : *queries, instruction, estimate,
                                                      pends, defers(kind), pending_reads, in_backward(kind)})});
  }
  plan.update =
      compose(plan.layout, {.updates = parts.queries ? *parts.queries : *parts.backprop, .pending_reads_gradient = pending_reads});
}

}  // namespace

const Plan& TrainingPlan::step(const StepKind& kind) const {
  for (const Step& s : steps)
    if (s.kind == kind) return s.plan;
  fail_protocol("[plan] a step of {} was not planned", name_of(kind));
}

StreamsApart TrainingPlan::streams_apart(bool host_is_device) const {
  StreamsApart out{.communication = any_step().options.overlap, .files = !any_step().staging_rings.empty()};
  for (const Step& step : steps)
    for (const Action& a : step.plan.actions) {
      const bool is_beside_visits = step.plan.applies_pending || step.plan.updates_in_backward;
      out.host_compute |= (is_beside_visits || !host_is_device) && a.lane == Lane::HostCompute;
      out.copies |= a.lane == Lane::DeviceToHost;
    }
  return out;
}

std::vector<NamedPlan> TrainingPlan::plans() const {
  std::vector<NamedPlan> out;
  for (const Step& step : steps) out.push_back({fmt::format("a step of {}", name_of(step.kind)), &step.plan});
  out.push_back({"a batch of evaluation", &evaluate});
  out.push_back({"an update alone", &update});
  return out;
}

TrainingPlan plan_training(const Config& config, const ModelDefinition& model, const Objective& objective, int world,
                           std::optional<Updates> updates) {
  const ZeroConfig& zero = config.zero;
  LayoutOptions layout_options;
  layout_options.stage = zero.stage;
  layout_options.shard_ranks = world;
  layout_options.compute_type = config.precision.compute;
  layout_options.persistence_threshold = zero.stage3_param_persistence_threshold;
  layout_options.model_persistence_threshold = zero.stage3_model_persistence_threshold;
  // Updated parameters are gathered in buckets where they are kept whole and updated in shards.
  const bool gathers_updated = zero.stage == 1 || zero.stage == 2;
  const int64_t allgather_bucket = gathers_updated ? zero.allgather_bucket_size : PlanOptions().allgather_bucket;
  layout_options.max_slice_elements = std::max<int64_t>(1, std::min(zero.reduce_bucket_size, allgather_bucket));
  layout_options.parameter_tier = zero.offload_param.tier;
  layout_options.state_tier = zero.offload_optimizer.tier;
  layout_options.offloaded_share = zero.offload_optimizer.ratio;
  layout_options.max_host_elements = zero.offload_param.max_in_cpu;
  layout_options.round_robin = zero.round_robin_gradients;
  layout_options.trainable = config.model.trainable;
  layout_options.scope = scope_patterns(config.step, model);
  if (config.optimizer.orthogonal()) {
    layout_options.orthogonal_matrices = true;
    layout_options.not_orthogonal = config.optimizer.no_muon.value_or(model.embeddings_and_head());
    layout_options.assign_all = config.optimizer.cautious;
  }
  layout_options.rest_in_fp32 = config.step.uses_queries() && config.step.masters;

  PlanOptions options;
  options.stage = zero.stage;
  options.world = world;
  options.gradient_tier = zero.offload_optimizer.tier;
  // Directions that are made of the gradient, and its cosine with an estimate, look at all of it at once.
  const std::vector<StepKind> kinds = step_kinds(config.step);
  if (std::any_of(kinds.begin(), kinds.end(), [](const StepKind& kind) { return kind.backprop && kind.queries; }))
    options.gradient_tier = at_most_host(options.gradient_tier);
  options.parameter_buffers = zero.offload_param.buffer_count;
  options.state_buffers = zero.offload_optimizer.buffer_count;
  options.loads_early = zero.offload_optimizer.pipeline_read;
  options.stores_aside = zero.offload_optimizer.pipeline_write;
  options.overlap =
      zero.overlap_comm && (world > 1 || zero.offload_param.tier != Tier::Device || zero.offload_optimizer.tier != Tier::Device);
  options.max_live_parameters = zero.stage3_max_live_parameters;
  options.max_reuse_distance = zero.stage3_max_reuse_distance;
  options.prefetch_bucket = zero.stage3_prefetch_bucket_size;
  options.reduce_bucket = zero.reduce_bucket_size;
  options.allgather_bucket = allgather_bucket;
  // A chunk in a file is what one update covers: large enough for the disk, small enough that several are in memory at once.
  constexpr int64_t kFileChunkElements = int64_t{1} << 22;
  options.sub_group = zero.offload_optimizer.tier == Tier::File ? std::min(zero.sub_group_size, kFileChunkElements) : zero.sub_group_size;
  options.communication_type = world > 1 ? config.communication_data_type : DType::F32;
  options.host_is_device = config.run.device != "cuda";
  options.reduce_scatter = zero.reduce_scatter;
  options.allgather_partitions = zero.allgather_partitions;
  options.contiguous_gradients = zero.contiguous_gradients;
  options.state_sets = config.step.separate_state ? 2 : 1;
  options.optimizer_state_values = Optimizer::state_values(config.optimizer) * options.state_sets;
  options.matrix_state_values = Optimizer::matrix_state_values(config.optimizer) * options.state_sets;
  options.masters = config.step.masters;

  TrainingPlan out{ModelLayout::make(model.units(), layout_options), {}, {}, {}};
  options.host_checkpoints = host_checkpoints(config, model, objective, out.layout);
  if (config.step.uses_queries()) out.queries_per_pass = choose_per_pass(config, model, objective, world, options, out.layout);
  const StepParts parts = plan_parts(config, objective, world, options, out);
  compose_steps(config, parts, updates, out);

  PlanOptions evaluation = options;
  evaluation.update = false;
  const std::vector<Visit> visits = add_weight_copies(out.layout, evaluation_visits(static_cast<int>(out.layout.units.size())));
  const auto make_evaluation = [&] {
    out.evaluate = make_plan(out.layout, visits, evaluation);
    add_loads_and_stores(out.layout, out.evaluate);
    order_actions(out.layout, out.evaluate);
  };
  make_evaluation();
  if (!fits(out.evaluate, out.any_step())) {
    evaluation.prefetch_bucket = 0;
    evaluation.max_live_parameters = 0;
    make_evaluation();
    if (!fits(out.evaluate, out.any_step())) fail_protocol("[plan] evaluation needs more slots than training");
  }
  const StepLoads loads(config, model, objective);
  for (TrainingPlan::Step& step : out.steps) count_work(out.layout, model, loads, step.plan);
  count_work(out.layout, model, loads, out.evaluate);
  count_work(out.layout, model, loads, out.update);
  return out;
}

}  // namespace zerostep
