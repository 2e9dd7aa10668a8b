#include "experiments/watch/run_status.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/error.h"
#include "base/format.h"
#include "experiments/records/metrics_table.h"

namespace zerostep {
namespace {

constexpr double kNaN = RunStatus::kUnknown;
constexpr double kSilentSeconds = 300;
constexpr size_t kRecentRows = 20;

std::span<const double> last_of(std::span<const double> values, size_t count) { return values.last(std::min(values.size(), count)); }

// Of the last steps. The first step of a process also warms caches up, and does not count once there is another.
MeanSpeed recent_speed(const MetricsTable& table) {
  std::span<const double> seconds = last_of(table.column("step_seconds"), kRecentRows),
                          speeds = last_of(table.column("tokens_per_second"), kRecentRows);
  if (table.num_rows() > 1 && static_cast<int64_t>(seconds.size()) == table.num_rows()) seconds = seconds.subspan(1);
  speeds = last_of(speeds, seconds.size());
  return mean_speed(seconds, speeds);
}

// Of a run that is running; an ended one has none.
double seconds_left(const RunStatus& s) {
  if (s.state != RunState::Running || s.total == 0 || !std::isfinite(s.step_seconds)) return kNaN;
  return s.step_seconds * static_cast<double>(std::max<int64_t>(0, s.total - s.step - 1));
}

// What metrics.csv alone tells; in `why` what is wrong with it.
RunStatus figures_of(const std::filesystem::path& metrics) {
  constexpr std::string_view kColumns[] = {
      "step",           "loss",     "eval_loss", "eval_accuracy", "tokens_per_second", "step_seconds", "device_peak_bytes",
      "resident_bytes", "gpu_busy", "gpu_bytes"};
  RunStatus out;
  MetricsTable table;
  try {
    table = MetricsTable::read(metrics, kColumns);
  } catch (const InputError& error) {
    out.why = error.what();
  }
  for (double loss : table.column("loss"))
    if (!std::isnan(loss)) out.losses.push_back(loss);
  out.last_loss = last_value(table.column("loss"));
  out.final_loss = final_mean(table.column("loss"));
  out.eval_loss = last_value(table.column("eval_loss"));
  out.best_eval_loss = lowest(table.column("eval_loss"));
  out.eval_accuracy = last_value(table.column("eval_accuracy"));
  out.best_eval_accuracy = highest(table.column("eval_accuracy"));
  const MeanSpeed speed = recent_speed(table);
  out.step_seconds = speed.step_seconds;
  out.tokens_per_second = speed.tokens_per_second;
  out.device_peak_bytes = last_value(table.column("device_peak_bytes"));
  const auto of_last_row = [&](std::string_view name) {
    const std::span<const double> values = table.column(name);
    return values.empty() ? kNaN : values.back();
  };
  out.resident_bytes = of_last_row("resident_bytes");
  out.gpu_busy = of_last_row("gpu_busy");
  out.gpu_bytes = of_last_row("gpu_bytes");
  const double step = of_last_row("step");
  if (table.num_rows() > 0) out.step = std::isfinite(step) ? static_cast<int64_t>(step) : table.num_rows() - 1;
  out.last_row = table.last("timestamp");
  return out;
}

// `out`: the figures of its metrics.csv.
RunStatus complete(RunStatus out, const RunRecord& run, double now) {
  out.name = run.name;
  out.folder = run.folder.string();
  out.state = run.state;
  out.owner = run.owner;
  out.unread = run.unread;
  // A run that has begun a moment ago has no row yet, not even the names of the columns.
  if (run.state == RunState::Running || out.why.empty() || !run.may_read_metrics) out.why = run.why;
  out.total = run.total_steps();
  out.planned_bytes = run.planned_bytes("device");
  out.seconds_left = seconds_left(out);
  double row = seconds_of_timestamp(out.last_row);
  struct stat file {};
  if (!std::isfinite(row) && ::stat(run.metrics.c_str(), &file) == 0) row = static_cast<double>(file.st_mtime);
  out.seconds_since_row = run.state == RunState::Running ? std::max(0.0, now - row) : kNaN;
  return out;
}

}  // namespace

bool RunStatus::is_silent() const {
  return state == RunState::Running && seconds_since_row >= std::max(kSilentSeconds, std::isfinite(step_seconds) ? 3 * step_seconds : 0.0);
}

RunStatus status_of(const RunRecord& run, double now) { return complete(figures_of(run.metrics), run, now); }

RunStatus StatusReader::status_of(const RunRecord& run, double now) {
  struct stat file {};
  if (::stat(run.metrics.c_str(), &file) != 0) {
    seen_.erase(run.metrics);
    return zerostep::status_of(run, now);
  }
  // Before it is read: what is added meanwhile is a change.
  Seen& seen = seen_[run.metrics];
  if (seen.size != file.st_size || seen.seconds != file.st_mtim.tv_sec || seen.nanoseconds != file.st_mtim.tv_nsec)
    seen = {file.st_size, file.st_mtim.tv_sec, file.st_mtim.tv_nsec, figures_of(run.metrics)};
  return complete(seen.figures, run, now);
}

nlohmann::ordered_json status_json(const RunStatus& s) {
  nlohmann::ordered_json out{{"run", s.name}, {"folder", s.folder}, {"state", name_of(s.state)}};
  const auto set = [&](const char* name, double value) { out[name] = std::isfinite(value) ? nlohmann::ordered_json(value) : nullptr; };
  const auto set_bytes = [&](const char* name, double value) {
    out[name] = std::isfinite(value) ? nlohmann::ordered_json(static_cast<int64_t>(value)) : nullptr;
  };
  out["why"] = s.why;
  out["owner"] = s.owner;
  out["unread"] = s.unread;
  out["step"] = s.step < 0 ? nlohmann::ordered_json() : nlohmann::ordered_json(s.step);
  out["steps"] = s.total > 0 ? nlohmann::ordered_json(s.total) : nullptr;
  set("loss", s.last_loss);
  set("final_loss", s.final_loss);
  set("eval_loss", s.eval_loss);
  set("best_eval_loss", s.best_eval_loss);
  set("eval_accuracy", s.eval_accuracy);
  set("best_eval_accuracy", s.best_eval_accuracy);
  set("tokens_per_second", s.tokens_per_second);
  set("step_seconds", s.step_seconds);
  set("seconds_left", s.seconds_left);
  set_bytes("device_peak_bytes", s.device_peak_bytes);
  set_bytes("planned_bytes", s.planned_bytes);
  set_bytes("resident_bytes", s.resident_bytes);
  set("gpu_busy", s.gpu_busy);
  set_bytes("gpu_bytes", s.gpu_bytes);
  out["last_row"] = s.last_row;
  set("seconds_since_row", s.seconds_since_row);
  out["is_silent"] = s.is_silent();
  if (s.load)
    out["load"] = {{"processes", s.load->processes}, {"cores", s.load->cores}, {"resident_bytes", s.load->resident_bytes}};
  else
    out["load"] = nullptr;
  return out;
}

}  // namespace zerostep
