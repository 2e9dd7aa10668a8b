#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>

#include "base/json_depth.h"
#include "experiments/plot/colors.h"
#include "experiments/plot/view_parts.h"
#include "experiments/records/read_file.h"

namespace zerostep {
namespace {

struct TraceEvent {
  std::string lane, name;
  double begin = 0, end = 0;  // seconds
};

// What a rank's lanes did, in the order of time; nothing where the file is no whole trace, as one that is being written.
std::vector<TraceEvent> read_trace(const std::filesystem::path& file) {
  std::vector<TraceEvent> out;
  const nlohmann::json whole = nlohmann::json::parse(unless_too_deep(read_file(file)), nullptr, false);
  if (!whole.is_object() || !whole.contains("traceEvents") || !whole["traceEvents"].is_array()) return out;
  for (const nlohmann::json& event : whole["traceEvents"]) {
    if (!event.is_object() || event.value("ph", "") != "X" || !event.contains("ts") || !event["ts"].is_number()) continue;
    const nlohmann::json lane = event.value("tid", nlohmann::json(""));
    const double begin = event["ts"].get<double>() * 1e-6;
    out.push_back({plain(lane), event.value("name", ""), begin, begin + event.value("dur", 0.0) * 1e-6});
  }
  std::stable_sort(out.begin(), out.end(), [](const auto& a, const auto& b) { return a.begin < b.begin; });
  return out;
}

struct Span {
  double begin = 0, end = 0;
};

// One step of a trace: every step agrees once on what it has found, so from the end of one agreement to the end of the next lies one step's
// work. The step of median length; all of the trace where it has no two agreements.
Span step_of(const std::vector<TraceEvent>& events) {
  std::map<std::string, std::vector<double>> agreements;
  Span all{events.front().begin, events.front().end};
  for (const TraceEvent& event : events) {
    if (event.name.starts_with("agree")) agreements[event.name].push_back(event.end);
    all.end = std::max(all.end, event.end);
  }
  const std::vector<double>* most = nullptr;
  for (const auto& [name, ends] : agreements)
    if (most == nullptr || ends.size() > most->size()) most = &ends;
  if (most == nullptr || most->size() < 2) return all;
  std::vector<Span> steps;
  for (size_t i = 1; i < most->size(); ++i) steps.push_back({(*most)[i - 1], (*most)[i]});
  const auto middle = steps.begin() + static_cast<std::ptrdiff_t>(steps.size() / 2);
  std::nth_element(steps.begin(), middle, steps.end(), [](const Span& a, const Span& b) { return a.end - a.begin < b.end - b.begin; });
  return *middle;
}

constexpr std::array<std::string_view, 8> kVerbs{"forward", "backward", "gather", "reduce", "update", "load", "store", "agree"};

size_t verb_of(const std::string& name) {
  for (size_t i = 0; i < kVerbs.size(); ++i)
    if (name.starts_with(kVerbs[i])) return i;
  return kVerbs.size();
}

Color color_of_verb(const std::string& name) {
  if (name.starts_with("wait")) return kGrid;
  const size_t verb = verb_of(name);
  return verb < kVerbs.size() ? color_of_name(verb, kVerbs.size()) : kFrame;
}

// A panel with a row for each lane of a rank.
Panel lanes_of(const std::string& run, const std::string& title, const std::vector<TraceEvent>& events, std::vector<bool>& seen) {
  Panel out;
  out.title = title;
  out.x = {"time", AxisUnit::Seconds, false, false};
  const Span step = step_of(events);
  // In milliseconds where a step is short.
  const bool is_short = step.end - step.begin < 2;
  if (is_short) out.x = {"milliseconds", AxisUnit::Number, false, false};
  const double unit = is_short ? 1e3 : 1;
  for (const TraceEvent& event : events) {
    if (event.end <= step.begin || event.begin >= step.end) continue;
    auto row = std::find(out.rows.begin(), out.rows.end(), event.lane);
    if (row == out.rows.end()) row = out.rows.insert(out.rows.end(), event.lane);
    const auto at = static_cast<double>(row - out.rows.begin());
    const double begin = std::max(event.begin, step.begin) - step.begin, end = std::min(event.end, step.end) - step.begin;
    out.blocks.push_back({run, event.name, begin * unit, end * unit, at - 0.35, at + 0.35, color_of_verb(event.name), event.name});
    seen[event.name.starts_with("wait") ? kVerbs.size() + 1 : verb_of(event.name)] = true;
  }
  return out;
}

}  // namespace

std::optional<Picture> lanes_view(const PlotInput& input) {
  constexpr size_t kMostPanels = 6;
  Picture out;
  out.name = "lanes";
  out.title = "Lanes of a step";
  out.subtitle = "from the end of one step's agreement to the end of the next one's; the step of median length";
  std::vector<bool> seen(kVerbs.size() + 2);
  size_t left_out = 0;
  for (const PlotRun& run : input.runs) {
    if (run.record.folder.empty()) continue;
    for (int rank = 0;; ++rank) {
      const std::filesystem::path file = run.record.folder / fmt::format("trace_rank{}.json", rank);
      std::error_code error;
      if (!std::filesystem::is_regular_file(file, error)) break;
      if (out.panels.size() == kMostPanels) {
        ++left_out;
        continue;
      }
      const std::vector<TraceEvent> events = read_trace(file);
      if (!events.empty()) out.panels.push_back(lanes_of(run.record.name, fmt::format("{}, rank {}", run.record.name, rank), events, seen));
    }
  }
  if (left_out > 0) out.subtitle += fmt::format("; {} more traces are left out", left_out);
  for (size_t i = 0; i < kVerbs.size(); ++i)
    if (seen[i]) out.notes.push_back({std::string(kVerbs[i]), color_of_name(i, kVerbs.size()), Curve::Form::Line, true});
  if (seen[kVerbs.size()]) out.notes.push_back({"other", kFrame, Curve::Form::Line, true});
  if (seen[kVerbs.size() + 1]) out.notes.push_back({"wait", kGrid, Curve::Form::Line, true});
  return has_curves(out) ? std::optional(std::move(out)) : std::nullopt;
}

}  // namespace zerostep
