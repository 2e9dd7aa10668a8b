#include "experiments/plot/x_values.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <optional>

#include "base/error.h"
#include "runtime/strategy/step_kind.h"

namespace zerostep {
namespace {

double or_zero(double value) { return std::isfinite(value) ? value : 0; }

std::span<const double> needed(const PlotRun& run, const XAxis& axis, std::string_view column, std::string_view instead = "") {
  if (!run.has_values(column) && run.table.num_rows() > 0)
    fail_input("{}: has no values in a column {}{}, which --x {} needs; --x step and --x seconds need no more than steps or time stamps",
               run.record.metrics.string(), column, instead, axis.name);
  return run.column(column);
}

std::vector<double> steps_of(const PlotRun& run) {
  const std::span<const double> steps = run.column("step");
  std::vector<double> out(static_cast<size_t>(run.table.num_rows()));
  for (size_t i = 0; i < out.size(); ++i) out[i] = i < steps.size() && std::isfinite(steps[i]) ? steps[i] : static_cast<double>(i);
  return out;
}

std::vector<double> seconds_of(const PlotRun& run, const XAxis& axis) {
  std::vector<double> out(static_cast<size_t>(run.table.num_rows()));
  if (run.has_values("step_seconds") || out.empty()) {
    const std::span<const double> seconds = run.column("step_seconds");
    double sum = 0;
    for (size_t i = 0; i < out.size(); ++i) out[i] = sum += or_zero(seconds[i]);
    return out;
  }
  const std::span<const double> stamps = needed(run, axis, "timestamp", " or step_seconds");
  for (size_t i = 0; i < out.size(); ++i) out[i] = stamps[i] - stamps[0];
  return out;
}

std::vector<double> tokens_of(const PlotRun& run, const XAxis& axis) {
  const std::span<const double> speed = needed(run, axis, "tokens_per_second"), seconds = needed(run, axis, "step_seconds");
  std::vector<double> out(speed.size());
  double sum = 0;
  for (size_t i = 0; i < out.size(); ++i) out[i] = sum += std::round(or_zero(speed[i] * seconds[i]));
  return out;
}

int64_t whole_number(const PlotRun& run, std::string_view path, int64_t otherwise) {
  const std::string text = run.value(path);
  char* end = nullptr;
  const double value = std::strtod(text.c_str(), &end);
  return !text.empty() && *end == '\0' && std::abs(value) < 1e15 ? static_cast<int64_t>(value) : otherwise;
}

constexpr std::array<std::string_view, 5> kModes{"fo", "zo", "calibrate", "instruct", "alternating"};  // as StepConfig::Mode

std::optional<StepConfig::Mode> mode_of(const PlotRun& run) {
  const auto it = std::find(kModes.begin(), kModes.end(), run.value("step.mode"));
  return it == kModes.end() ? std::nullopt : std::optional(static_cast<StepConfig::Mode>(it - kModes.begin()));
}

// Of a run's configuration, what says which step does what.
StepConfig step_config(const PlotRun& run, const XAxis& axis) {
  StepConfig out;
  const std::optional<StepConfig::Mode> mode = mode_of(run);
  if (!mode)
    fail_input("{}: its column mode is '{}', and --x {} needs one of {}", run.record.metrics.string(), run.value("step.mode"), axis.name,
               fmt::join(kModes, ", "));
  out.mode = *mode;
  out.estimator = run.value("step.estimator") == "forward" ? StepConfig::Estimator::Forward : StepConfig::Estimator::Central;
  out.queries = whole_number(run, "step.queries", 1);
  out.zo_steps = whole_number(run, "step.zo_steps", 1);
  out.monitor_interval = whole_number(run, "step.monitor_interval", 0);
  if (*mode == StepConfig::Mode::Calibrate || *mode == StepConfig::Mode::Instruct)
    out.bp_interval = whole_number(run, "step.bp_interval", 10);
  return out;
}

std::vector<double> forwards_of(const PlotRun& run, const XAxis& axis) {
  const StepConfig config = step_config(run, axis);
  const std::vector<double> steps = steps_of(run);
  const bool is_central = config.estimator == StepConfig::Estimator::Central;
  const auto of_queries = static_cast<double>(is_central ? 2 * config.queries : config.queries + 1);
  std::vector<double> out(steps.size());
  double sum = 0;
  for (size_t i = 0; i < out.size(); ++i) {
    const StepKind kind = step_kind(config, static_cast<int64_t>(steps[i]));
    out[i] = sum += (kind.backprop ? 3 : 0) + (kind.queries ? of_queries : 0);
  }
  return out;
}

std::vector<double> bytes_of(const PlotRun& run, const XAxis& axis) {
  const bool is_short = run.value("fp16.enabled") == "true" || run.value("bf16.enabled") == "true";
  const std::string reduced_as = run.value("communication_data_type");
  const double gathered_size = is_short ? 2 : 4, reduced_size = reduced_as == "fp16" || reduced_as == "bf16" ? 2 : 4;
  const std::span<const double> gathered = needed(run, axis, "elements_gathered"), reduced = needed(run, axis, "elements_reduced");
  std::vector<double> out(gathered.size());
  double sum = 0;
  for (size_t i = 0; i < out.size(); ++i) out[i] = sum += or_zero(gathered[i]) * gathered_size + or_zero(reduced[i]) * reduced_size;
  return out;
}

}  // namespace

XAxis x_axis(const std::string& name) {
  if (name == "step") return {name, "step", AxisUnit::Number};
  if (name == "seconds") return {name, "time of training", AxisUnit::Seconds};
  if (name == "tokens") return {name, "tokens", AxisUnit::Number};
  if (name == "forwards") return {name, "forward passes (a backward counts as 2)", AxisUnit::Number};
  if (name == "bytes") return {name, "bytes received by a rank", AxisUnit::Bytes};
  return {name, label_of_column(name), unit_of_column(name)};
}

std::vector<std::string_view> columns_of(const XAxis& axis) {
  if (axis.name == "seconds") return {"step_seconds", "timestamp"};
  if (axis.name == "tokens") return {"tokens_per_second", "step_seconds"};
  if (axis.name == "bytes") return {"elements_gathered", "elements_reduced"};
  if (axis.name == "forwards" || axis.name == "step") return {"step"};
  return {axis.name};
}

std::vector<double> x_values(const PlotRun& run, const XAxis& axis) {
  if (axis.name == "step") return steps_of(run);
  if (axis.name == "seconds") return seconds_of(run, axis);
  if (axis.name == "tokens") return tokens_of(run, axis);
  if (axis.name == "forwards") return forwards_of(run, axis);
  if (axis.name == "bytes") return bytes_of(run, axis);
  const std::span<const double> values = needed(run, axis, axis.name);
  return {values.begin(), values.end()};
}

bool mixes_steps(const PlotRun& run) {
  const std::optional<StepConfig::Mode> mode = mode_of(run);
  return mode && *mode != StepConfig::Mode::FirstOrder && *mode != StepConfig::Mode::ZerothOrder;
}

std::vector<StepMakes> steps_make(const PlotRun& run) {
  const XAxis axis = x_axis("forwards");
  const StepConfig config = step_config(run, axis);
  std::vector<StepMakes> out;
  for (double step : steps_of(run)) {
    const StepKind kind = step_kind(config, static_cast<int64_t>(step));
    out.push_back({kind.backprop, kind.queries});
  }
  return out;
}

std::string label_of_column(std::string_view name) {
  if (name == "eval_loss") return "evaluation loss";
  if (name == "eval_accuracy") return "evaluation accuracy";
  for (const std::string_view column : {"eval_loss.", "eval_accuracy."})  // of a named set
    if (name.starts_with(column) && name.size() > column.size())
      return label_of_column(column.substr(0, column.size() - 1)) + ", " + std::string(name.substr(column.size()));
  if (name == "grad_norm") return "norm of the gradient";
  if (name == "cosine") return "cosine of estimate and gradient";
  if (name == "lr") return "learning rate";
  for (std::string_view unit : {"_bytes", "_seconds"})
    if (name.ends_with(unit) && name.size() > unit.size()) name.remove_suffix(unit.size());
  std::string out(name);
  std::replace(out.begin(), out.end(), '_', ' ');
  return out;
}

AxisUnit unit_of_column(std::string_view name) {
  return name.ends_with("_bytes") ? AxisUnit::Bytes : name.ends_with("_seconds") ? AxisUnit::Seconds : AxisUnit::Number;
}

}  // namespace zerostep
