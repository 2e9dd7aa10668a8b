#include "runtime/report/plan_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>

#include "base/first_names.h"
#include "base/format.h"
#include "runtime/report/plan_tables.h"
#include "runtime/report/prediction_report.h"

namespace zerostep {
namespace {

using nlohmann::ordered_json;

std::string limit_text(int64_t elements) { return elements >= INT64_MAX / 2 ? "no limit" : grouped(elements); }

ordered_json limit_json(int64_t elements) { return elements >= INT64_MAX / 2 ? ordered_json(nullptr) : ordered_json(elements); }

struct NamedLimit {
  const char* key;
  int64_t elements;
};
std::vector<NamedLimit> named_limits(const Plan& plan) {
  const EffectiveLimits& l = plan.limits;
  std::vector<NamedLimit> out;
  if (plan.options.stage == 3)
    out = {{"stage3_max_live_parameters", l.max_live_parameters},
           {"stage3_max_reuse_distance", l.max_reuse_distance},
           {"stage3_prefetch_bucket_size", l.prefetch_bucket}};
  out.push_back({"reduce_bucket_size", l.reduce_bucket});
  if (plan.options.stage == 1 || plan.options.stage == 2) out.push_back({"allgather_bucket_size", l.allgather_bucket});
  out.push_back({"sub_group_size", l.sub_group});
  return out;
}

// Elements gathered by the update that the step before has left waiting.
int64_t gathered_of_waiting_update(const Plan& plan) {
  int64_t out = 0;
  for (int i = 0; plan.applies_pending && i < plan.agreement; ++i)
    if (plan.action(i).kind == ActionKind::GatherUpdated) out += plan.action(i).elements_gathered;
  return out;
}

// When a step makes its update.
const char* updates_key(const Plan& plan) { return plan.updates_in_backward ? "in_backward" : plan.defers_update ? "deferred" : "at_end"; }
std::string updates_text(const Plan& plan) {
  if (plan.updates_in_backward) return "in the backward, of each unit when its gradient is complete";
  return plan.defers_update ? "in the next step, of each unit before its first use" : "at the end";
}

std::string line(const char* what, const std::string& value) { return fmt::format("  {:<30} {}\n", what, value); }
std::string bytes_text(int64_t num_bytes) { return fmt::format("{} bytes ({})", grouped(num_bytes), human_bytes(num_bytes)); }

// Where what is known of the workspace of libraries comes from.
const char* workspace_source(const PlanCost& cost, bool on_gpu) {
  if (!cost.workspace_known)
    return on_gpu ? "but for cuBLAS's not measured on a GPU" : "an estimate: what they take on the described machine is not known";
  if (cost.workspace_estimated) return on_gpu ? "an estimate from this GPU" : "an estimate from this machine";
  return on_gpu ? "measured on this GPU" : "measured on this machine";
}

}  // namespace

ordered_json plan_json(const PlanReport& report) {
  const auto& [config, plan, cost, limit, prediction] = report;
  const Plan& train = plan.any_step();
  ordered_json out;
  if (config.run.steps > 0) out["run_steps"] = config.run.steps;
  out["world"] = train.options.world;
  out["stage"] = train.options.stage;
  out["precision"] = name_of(config.precision.compute);
  out["parameters"] = plan.layout.num_elements();
  out["trainable_parameters"] = plan.layout.num_elements(true);
  out["train_batch_size"] = config.batch.train_batch_size;
  out["train_micro_batch_size_per_gpu"] = config.batch.micro_batch_size;
  out["gradient_accumulation_steps"] = config.batch.accumulation_steps;
  out["sequence_length"] = config.data.sequence_length;
  if (config.step.uses_queries()) {
    out["queries"] = config.step.queries;
    out["queries_per_pass"] = plan.queries_per_pass;
    out["query_batch_size"] = config.step.query_batch.train_batch_size;
  }
  out["device_peak_bytes"] = cost.device_peak_bytes;
  out["host_peak_bytes"] = cost.host_peak_bytes;
  out["file_peak_bytes"] = cost.file_peak_bytes;
  out["elements_gathered"] = cost.elements_gathered;
  out["elements_reduced"] = cost.elements_reduced;
  out["flops"] = cost.flops;
  if (config.run.device == "cuda") out["piece_bytes"] = cost.piece_bytes;
  out["arena_bytes"] = cost.arena_bytes;
  out["activation_peak_bytes"] = cost.activation_peak_bytes;
  out["tensor_peak_bytes"] = cost.tensor_peak_bytes;
  out["workspace_bytes"] = cost.workspace_bytes();
  if (config.run.device == "cuda") out["blas_workspace_bytes"] = cost.blas_bytes;
  out["workspace_estimated"] = cost.workspace_estimated;
  out["peak_at"] = cost.peak_at;
  out["device_limit_bytes"] = limit.device_bytes;
  out["device_limit_source"] = limit.source;
  if (cost.file_peak_bytes > 0 && limit.file_bytes < INT64_MAX) {
    out["file_limit_bytes"] = limit.file_bytes;
    out["file_limit_source"] = limit.source_of_files();
  }
  out["fits"] = report.fits();
  if (prediction != nullptr) add_prediction(*prediction, out);
  for (const NamedLimit& l : named_limits(train)) out["limits"][l.key] = limit_json(l.elements);
  for (size_t i = 0; i < plan.steps.size(); ++i) {
    const auto& [kind, plan_of_kind] = plan.steps[i];
    ordered_json step{{"of", name_of(kind)},
                      {"elements_gathered", plan_of_kind.elements_gathered},
                      {"elements_reduced", plan_of_kind.elements_reduced},
                      {"flops", plan_of_kind.flops},
                      {"updates", updates_key(plan_of_kind)},
                      {"file_bytes_read", plan_of_kind.file_bytes_read},
                      {"file_bytes_written", plan_of_kind.file_bytes_written}};
    for (const CollectiveTotal& c : collectives_of(plan_of_kind))
      step["collectives"].push_back({{"operation", c.operation}, {"of", c.what}, {"calls", c.calls}, {"elements", c.elements}});
    if (prediction != nullptr) add_prediction(prediction->steps[i].simulation, step);
    out["steps"].push_back(std::move(step));
  }
  for (const BufferTotal& b : buffers_of(train, report.staging_bytes()))
    out["buffers"].push_back({{"kind", b.kind}, {"tier", name_of(b.tier)}, {"count", b.count}, {"bytes", b.bytes}});
  for (const auto* rings : {&train.parameter_rings, &train.gradient_rings})
    for (const RingPlan& r : *rings)
      out["rings"].push_back({{"name", r.name}, {"slots", r.num_slots}, {"slot_bytes", r.slot_bytes}, {"groups", r.groups.size()}});
  out["actions"] = plan.steps.front().plan.actions.size();
  return out;
}

std::string plan_text(const PlanReport& report) {
  const auto& [config, plan, cost, limit, prediction] = report;
  const Plan& train = plan.any_step();
  const BatchConfig& batch = config.batch;
  std::string out = fmt::format("Plan of one step: stage {}, {}, {}\n", train.options.stage, counted(train.options.world, "rank"),
                                name_of(config.precision.compute));
  const int64_t trainable = plan.layout.num_elements(true);
  out += line("parameters",
              fmt::format("{} ({})", grouped(plan.layout.num_elements()), human_count(static_cast<double>(plan.layout.num_elements()))) +
                  (trainable < plan.layout.num_elements() ? fmt::format(", {} of them trained", grouped(trainable)) : ""));
  if (config.step.uses_queries())
    out += line("queries",
                fmt::format("{} of {} samples, {} a pass{}", config.step.queries, config.step.query_batch.train_batch_size,
                            plan.queries_per_pass, config.step.queries_per_pass == 0 ? " (chosen: step.queries_per_pass is 0)" : ""));
  if (config.step.uses_backprop())
    out += line("batch",
                fmt::format("{} samples = {} a micro-batch x {} accumulation steps x {}; {}{} tokens each", grouped(batch.train_batch_size),
                            batch.micro_batch_size, batch.accumulation_steps, counted(train.options.world, "rank"),
                            config.model.classifies ? "up to " : "", grouped(config.data.sequence_length)));
  out += "\nMemory of a rank at its peak\n";
  out += line("device", bytes_text(cost.device_peak_bytes));
  out += line("  of it the runtime's arenas", bytes_text(cost.arena_bytes));
  out += line("  of it activations", bytes_text(cost.activation_peak_bytes) + (cost.peak_at.empty() ? "" : ", highest at " + cost.peak_at));
  out += line("    tensors", bytes_text(cost.tensor_peak_bytes));
  const bool on_gpu = config.run.device == "cuda";
  out += line("    workspace of libraries", fmt::format("{}, {}", bytes_text(cost.workspace_bytes()), workspace_source(cost, on_gpu)));
  if (!cost.unmeasured_units.empty()) {
    std::vector<std::string> names;
    for (const int u : cost.unmeasured_units) names.push_back(plan.layout.unit(u).name);
    out += line("      not measured", fmt::format("{}: one token takes more than {}", first_names(names), human_bytes(kMostProbeBytes)));
  }
  if (on_gpu) {
    out += line("  of it workspace of cuBLAS", bytes_text(cost.blas_bytes) + ", as CUBLAS_WORKSPACE_CONFIG says");
    out += line("  beside it unfilled pieces", bytes_text(cost.piece_bytes) + " at most: LibTorch takes memory of a GPU in pieces");
  }
  out += line("host", bytes_text(cost.host_peak_bytes));
  out += line("file", bytes_text(cost.file_peak_bytes));
  if (const std::string rests = rests_text(train); !rests.empty()) out += line("at rest", rests);
  const auto is_short = [&](const char* tier, int64_t needed, int64_t limit_bytes, const std::string& source) {
    if (needed <= limit_bytes) return;
    const ComparedBytes bytes = compared_bytes(needed, limit_bytes);
    out += line("does NOT fit", fmt::format("{} of {} {}: {}", bytes.one, bytes.other, tier, source));
  };
  if (!limit.includes_host) is_short("of host memory", cost.host_peak_bytes, limit.host_bytes, limit.source);
  is_short("in files", cost.file_peak_bytes, limit.file_bytes, limit.source_of_files());
  const ComparedBytes device = compared_bytes(report.needed_bytes(), limit.device_bytes);
  out += line(report.fits_device() ? "fits" : "does NOT fit",
              fmt::format("{}{}: {}", device.one, limit.device_bytes == INT64_MAX ? "" : " of " + device.other, limit.source));

  out += "\nArenas\n";
  for (const BufferTotal& b : buffers_of(train, report.staging_bytes()))
    out += line(b.kind.c_str(), fmt::format("{:>16} bytes in {}{}", grouped(b.bytes), counted(b.count, "buffer"),
                                            b.tier == Tier::Device ? "" : fmt::format(" ({})", name_of(b.tier))));
  if (const int64_t kernels = cost.arena_bytes - train.device_arena_bytes(); kernels > 0)
    out += line("scratch of kernels", fmt::format("{:>16} bytes", grouped(kernels)));
  for (const auto* rings : {&train.parameter_rings, &train.gradient_rings})
    for (const RingPlan& r : *rings)
      out += line("ring", fmt::format("{}: {} of {}, for {}", r.name, counted(r.num_slots, "slot"), human_bytes(r.slot_bytes),
                                      counted(std::ssize(r.groups), "group")));

  const bool several = plan.steps.size() > 1;
  for (const auto& [kind, plan_of_kind] : plan.steps) {
    out += fmt::format("\nElements that a rank receives in a step{}\n", several ? fmt::format(" of {}", name_of(kind)) : "");
    for (const CollectiveTotal& c : collectives_of(plan_of_kind))
      out += line(fmt::format("{} of {}", c.operation, c.what).c_str(),
                  fmt::format("{:>16} in {}", grouped(c.elements), counted(c.calls, "call")));
    out += line("gathered", fmt::format("{:>16}", grouped(plan_of_kind.elements_gathered)));
    if (const int64_t waited = gathered_of_waiting_update(plan_of_kind); waited > 0)
      out +=
          line("  of it updated before",
               fmt::format("{:>16}, of the update that waited for this step: none in the first step, nor after an evaluation, a checkpoint "
                           "or a step of queries",
                           grouped(waited)));
    out += line("reduced", fmt::format("{:>16}", grouped(plan_of_kind.elements_reduced)));
  }

  out += "\nLimits in force (elements; at least one unit)\n";
  for (const NamedLimit& l : named_limits(train)) out += line(l.key, fmt::format("{:>16}", limit_text(l.elements)));
  out += "\nWork\n";
  out += line("floating-point operations",
              fmt::format("{} a rank, {} in all{}", human_count(cost.flops), human_count(cost.flops * train.options.world),
                          several ? ", in the kind of step with most" : ""));
  if (const MatrixAssignment& assignment = train.matrices; !assignment.empty()) {
    double flops = 0;
    for (const Action& a : train.actions) flops += a.kind == ActionKind::MakeMatrixUpdates ? a.flops : 0;
    out += line("updates of whole matrices",
                fmt::format("{} of them in {}; {} operations, of the rank with most in each round", assignment.parameters.size(),
                            counted(std::ssize(assignment.rounds), "round"), human_count(flops)));
  }
  for (const auto& [kind, plan_of_kind] : plan.steps) {
    const std::vector<Action>& actions = plan_of_kind.actions;
    const auto visits = std::count_if(actions.begin(), actions.end(), [](const Action& a) { return a.kind == ActionKind::Visit; });
    out += line(several ? fmt::format("actions of {}", name_of(kind)).c_str() : "actions",
                fmt::format("{}, {} of them visits (--actions prints them)", actions.size(), visits));
    out += line(several ? fmt::format("updates of {}", name_of(kind)).c_str() : "updates", updates_text(plan_of_kind));
  }
  return out + (prediction != nullptr ? prediction_text(plan, *prediction) : "");
}

ProofReport prove_plan(const TrainingPlan& plan) {
  ProofReport out;
  const auto add = [&](const std::string& what, const std::vector<NamedPlan>& plans) {
    const auto start = std::chrono::steady_clock::now();
    const PlanProof proof = verify(plan.layout, plans);
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    out.text += line(what.c_str(), fmt::format("{}: {} actions, {} waits between lanes, {} conflicts ordered, {:.1f} ms",
                                               proof.problems.empty() ? "free of races" : "NOT proved", grouped(proof.actions),
                                               grouped(proof.waits), grouped(proof.conflicts), 1e3 * seconds));
    for (const std::string& problem : proof.problems) out.text += "    " + problem + "\n";
    out.holds &= proof.problems.empty();
  };
  for (const NamedPlan& one : plan.plans()) add(one.name, {one});
  add("each after each of them", plan.plans());
  return out;
}

}  // namespace zerostep
