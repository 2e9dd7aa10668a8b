#include "runtime/report/flops_profile.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "base/format.h"
#include "base/nth.h"

namespace zerostep {
namespace {

constexpr const char* kFirstWords = "-------------------------- flops profiler";

std::string per_second(double operations, double seconds) { return seconds > 0 ? human_quantity(operations / seconds, "FLOP/s") : "?"; }

std::string profile_line(const char* what, const std::string& value) { return fmt::format("  {:<44} {}\n", what, value); }

std::string shape_text(const std::vector<int64_t>& shape) {
  std::string text;
  for (int64_t d : shape) text += (text.empty() ? "" : " x ") + std::to_string(d);
  return text;
}

std::string units_table(const Config& config, const TrainingPlan& plan, std::vector<UnitFlops> units, double total) {
  const int depth = config.monitor.flops_module_depth < 0 ? 2 : config.monitor.flops_module_depth;
  std::string out;
  if (depth >= 1) {
    std::vector<const UnitFlops*> largest;
    for (const UnitFlops& u : units) largest.push_back(&u);
    std::stable_sort(largest.begin(), largest.end(), [](const UnitFlops* a, const UnitFlops* b) { return a->forward > b->forward; });
    largest.resize(std::min(largest.size(), static_cast<size_t>(std::max(1, config.monitor.flops_top_modules))));
    out += "units with the most forward operations:";
    for (const UnitFlops* u : largest) out += fmt::format(" {} ({})", u->name, human_count(u->forward));
    out += "\n";
  }
  if (!config.monitor.flops_detailed || depth < 1) return out;
  out += fmt::format("{:<36}{:>16}{:>14}{:>14}{:>9}\n", "unit", "parameters", "forward", "backward", "share");
  for (size_t i = 0; i < units.size(); ++i) {
    const UnitFlops& u = units[i];
    out += fmt::format("{:<36}{:>16}{:>14}{:>14}{:>8.1f}%\n", u.name, grouped(u.parameters), human_count(u.forward),
                       human_count(u.backward), total > 0 ? 100 * (u.forward + u.backward) / total : 0.0);
    if (depth >= 2)
      for (const ParameterInfo& p : plan.layout.units[i].parameters)
        out += fmt::format("  {:<46}{:>16}  {}{}\n", p.name, grouped(p.num_elements()), shape_text(p.shape), p.trainable ? "" : ", frozen");
  }
  return out;
}

}  // namespace

std::vector<UnitFlops> unit_flops(const TrainingPlan& plan, const StepKind& kind) {
  std::vector<UnitFlops> out;
  for (const UnitInfo& u : plan.layout.units) out.push_back({u.name, u.num_elements(), 0, 0});
  const Plan& step = plan.step(kind);
  for (const Action& a : step.actions) {
    if (a.kind != ActionKind::Visit) continue;
    const Visit& visit = step.visit(a.visit);
    UnitFlops& unit = nth(out, visit.unit);
    (visit.kind == VisitKind::Backward ? unit.backward : unit.forward) += a.flops;
  }
  return out;
}

bool may_hold_flops_profile(const std::string& path) {
  std::error_code error;
  if (!std::filesystem::is_regular_file(path, error) || std::filesystem::file_size(path, error) == 0) return true;
  std::string line;
  std::ifstream file(path);
  return std::getline(file, line) && line.starts_with(kFirstWords);
}

std::string flops_profile(const Config& config, const TrainingPlan& plan, const StepKind& kind, const StepTimers& timers,
                          double step_seconds) {
  const std::vector<UnitFlops> units = unit_flops(plan, kind);
  double forward = 0, backward = 0;
  for (const UnitFlops& u : units) {
    forward += u.forward;
    backward += u.backward;
  }
  const int world = plan.any_step().options.world;
  const BatchConfig& batch = kind.backprop ? config.batch : config.step.query_batch;
  const int64_t samples = batch.micro_batch_size * batch.accumulation_steps;
  std::string out = fmt::format("{}, step {} --------------------------\n", kFirstWords, config.monitor.flops_profile_step);
  out += profile_line("ranks", fmt::format("{}", world));
  if (config.step.uses_queries()) out += profile_line("this step makes", name_of(kind));
  out += profile_line("samples of a rank and step",
                      fmt::format("{} = {} x {} accumulation steps", samples, batch.micro_batch_size, batch.accumulation_steps));
  out += profile_line("parameters of the model", fmt::format("{} ({})", grouped(plan.layout.num_elements()),
                                                             human_count(static_cast<double>(plan.layout.num_elements()))));
  out += profile_line("parameters of a rank",
                      human_count(static_cast<double>(plan.layout.num_elements()) / (config.zero.stage == 3 ? world : 1)));
  out += profile_line("forward multiply-adds of a rank", human_count(forward / 2));
  out += profile_line("forward operations of a rank", human_count(forward));
  out += profile_line("backward operations of a rank", human_count(backward));
  out += profile_line("forward time", fmt::format("{:.2f} ms", timers.forward * 1e3));
  out += profile_line("backward time", fmt::format("{:.2f} ms", timers.backward * 1e3));
  out += profile_line("update time", fmt::format("{:.2f} ms", timers.update * 1e3));
  out += profile_line("step time", fmt::format("{:.2f} ms", step_seconds * 1e3));
  out += profile_line("forward speed", per_second(forward, timers.forward));
  out += profile_line("backward speed", per_second(backward, timers.backward));
  out += profile_line("speed of the whole step, a rank", per_second(forward + backward, step_seconds));
  out += profile_line("samples a second, all ranks",
                      fmt::format("{:.2f}", step_seconds > 0 ? static_cast<double>(batch.train_batch_size) / step_seconds : 0.0));
  out += units_table(config, plan, units, forward + backward);
  return out;
}

}  // namespace zerostep
