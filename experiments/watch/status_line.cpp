#include "experiments/watch/status_line.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "base/format.h"
#include "experiments/text/blocks.h"
#include "runtime/report/columns.h"

namespace zerostep {
namespace {

constexpr int kCurveColumns = 24;

std::string memory_text(const RunStatus& s) {
  std::string text;
  const double bytes = std::isfinite(s.device_peak_bytes) ? s.device_peak_bytes : s.resident_bytes;
  if (!std::isfinite(bytes)) return text;
  text = human_bytes(static_cast<int64_t>(bytes));
  if (std::isfinite(s.planned_bytes) && std::isfinite(s.device_peak_bytes))
    text += fmt::format(" of {} planned", human_bytes(static_cast<int64_t>(s.planned_bytes)));
  return text;
}

std::string load_text(const RunStatus& s) {
  std::string text;
  if (s.load)
    text = fmt::format("{:.1f} cores{}, {} resident", s.load->cores,
                       s.load->processes > 1 ? fmt::format(" in {} ranks", s.load->processes) : "", human_bytes(s.load->resident_bytes));
  const bool has_busy = std::isfinite(s.gpu_busy), has_bytes = std::isfinite(s.gpu_bytes);
  if (has_busy || has_bytes) text += text.empty() ? "gpu " : ", gpu ";
  if (has_busy) text += fmt::format("{:.0f} %", 100 * s.gpu_busy);
  if (has_bytes) text += (has_busy ? ", " : "") + human_bytes(static_cast<int64_t>(s.gpu_bytes));
  return text;
}

std::string step_text(const RunStatus& s) {
  if (s.step < 0) return "no step yet";
  return s.total > 0 ? fmt::format("step {}/{}", s.step + 1, s.total) : fmt::format("step {}", s.step + 1);
}

std::string evaluation_text(const RunStatus& s) {
  std::string text;
  if (std::isfinite(s.eval_loss)) text = fmt::format("evaluation {:.4f}", s.eval_loss);
  if (std::isfinite(s.eval_accuracy)) text += fmt::format("{}accuracy {:.4f}", text.empty() ? "" : ", ", s.eval_accuracy);
  return text;
}

// The higher, the earlier a part of the line is left out.
enum class Rank : int { Stays, TimeLeft, Evaluation, Speed, Curve, Memory, Load };

struct Part {
  Rank rank;
  std::string text;
  const char* before = " | ";
};

// `packs`: without the blanks that bring the lines of several runs below each other.
std::string joined(const std::vector<Part>& parts, Rank last, bool packs = false) {
  std::string line;
  for (const Part& part : parts) {
    const std::string text = packs ? part.text.substr(0, part.text.find_last_not_of(' ') + 1) : part.text;
    if (part.rank <= last && !text.empty()) line += (line.empty() ? "" : part.before) + text;
  }
  return line;
}

}  // namespace

std::string status_line(const RunStatus& s, int name_columns, int most) {
  std::vector<Part> parts;
  const auto add = [&](Rank rank, std::string text, const char* before = " | ") { parts.push_back({rank, std::move(text), before}); };
  add(Rank::Stays, s.name + std::string(static_cast<size_t>(std::max(0, name_columns - columns_of_text(s.name))), ' '));
  add(Rank::Stays, fmt::format("{:<11}", name_of(s.state)));
  if (s.is_silent()) add(Rank::Stays, fmt::format("NO ROW for {}", human_duration(s.seconds_since_row)));
  add(Rank::Stays, step_text(s));
  if (!s.losses.empty()) {
    add(Rank::Stays, fmt::format("last loss {:.4f}", s.last_loss));
    add(Rank::Curve, sparkline(s.losses, kCurveColumns), " ");
  }
  add(Rank::Evaluation, evaluation_text(s));
  if (std::isfinite(s.tokens_per_second)) add(Rank::Speed, human_count(s.tokens_per_second) + " tokens/s");
  if (std::isfinite(s.seconds_left)) add(Rank::TimeLeft, human_duration(s.seconds_left) + " left");
  add(Rank::Memory, memory_text(s));
  add(Rank::Load, load_text(s));
  if (s.state != RunState::Running) add(Rank::Stays, s.why);
  add(Rank::Stays, s.unread);
  std::string line;
  for (const Rank last : {Rank::Load, Rank::Memory, Rank::Curve, Rank::Speed, Rank::Evaluation, Rank::TimeLeft, Rank::Stays}) {
    line = joined(parts, last);
    if (columns_of_text(line) <= most) return line;
  }
  return cut_to_columns(joined(parts, Rank::Stays, true), most);
}

}  // namespace zerostep
