#include "runtime/report/prediction_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <map>
#include <nlohmann/json.hpp>

#include "base/format.h"
#include "base/program_name.h"
#include "base/trace.h"

namespace zerostep {
namespace {

using nlohmann::ordered_json;

constexpr int kColumns = 60;
constexpr double kLeastNamed = 0.02;  // of a column: less is a dot

std::string percent(double part, double whole) { return fmt::format("{:.0f} %", whole > 0 ? 100 * part / whole : 0.0); }

struct Letter {
  char letter;
  const char* meaning;
};
Letter letter_of(const Plan& plan, const Action& a) {
  switch (a.kind) {
    case ActionKind::Visit:
      switch (plan.visit(a.visit).kind) {
        case VisitKind::Recompute:
          return {'C', "recomputation"};
        case VisitKind::Backward:
          return {'B', "backward"};
        default:
          return plan.visit(a.visit).probes ? Letter{'Q', "queries"} : Letter{'F', "forward"};
      }
    case ActionKind::Gather:
    case ActionKind::GatherGradient:
    case ActionKind::GatherUpdated:
      return {'G', "gather"};
    case ActionKind::GatherMatrices:
    case ActionKind::ScatterMatrixUpdates:
      return {'X', "exchange of matrices"};
    case ActionKind::Reduce:
      return {'R', "reduction"};
    case ActionKind::MakeMatrixUpdates:
    case ActionKind::ApplyMatrixUpdates:
    case ActionKind::Update:
      return {'U', "update"};
    case ActionKind::BringShard:
    case ActionKind::Load:
      return {'L', "load"};
    case ActionKind::ReturnShard:
    case ActionKind::Store:
      return {'S', "store"};
    default:
      return {'A', "agreement"};
  }
}

// Each used lane as a row of letters, capital where it is at work for more than half of a column, with dots where it hardly is, and what
// the letters mean.
std::string picture_of(const Plan& plan, const Simulation& simulation) {
  if (simulation.seconds <= 0) return "";
  const double column = simulation.seconds / kColumns;
  std::map<Lane, std::vector<std::map<char, double>>> lanes;  // seconds by column and letter
  std::map<char, const char*> meanings, shown;
  for (int i = 0; i < std::ssize(simulation.actions); ++i) {
    const SimulatedAction& at = nth(simulation.actions, i);
    if (at.end <= at.begin) continue;
    const Action& action = plan.action(i);
    const Letter letter = letter_of(plan, action);
    meanings[letter.letter] = letter.meaning;
    auto& columns = lanes.try_emplace(action.lane, kColumns).first->second;
    const int first = std::min(kColumns - 1, static_cast<int>(at.begin / column)),
              last = std::min(kColumns - 1, static_cast<int>(at.end / column));
    for (int c = first; c <= last; ++c)
      nth(columns, c)[letter.letter] += std::min(at.end, (c + 1) * column) - std::max(at.begin, c * column);
  }
  std::string out;
  for (const auto& [lane, columns] : lanes) {
    std::string row;
    for (const auto& letters : columns) {
      double busy = 0;
      char most = ' ';
      for (const auto& [letter, seconds] : letters) {
        if (most == ' ' || seconds > letters.at(most)) most = letter;
        busy += seconds;
      }
      if (busy > 0) shown[most] = meanings[most];
      row += busy > 0.5 * column ? most : busy > kLeastNamed * column ? static_cast<char>(std::tolower(most)) : busy > 0 ? '.' : ' ';
    }
    out += fmt::format("  {:<8}|{}| {:>5}\n", name_of(lane), row, percent(nth(simulation.lane_seconds, lane), simulation.seconds));
  }
  std::string legend;
  for (const auto& [letter, meaning] : shown) legend += fmt::format("{}{} {}", legend.empty() ? "" : ", ", letter, meaning);
  return out + fmt::format("  {}; small: at work less than half of the time, dots: less than 2 %\n", legend);
}

ordered_json lanes_json(const std::array<double, kLanes>& seconds) {
  ordered_json out = ordered_json::object();
  for (int lane = 0; lane < kLanes; ++lane)
    if (nth(seconds, lane) > 0) out[name_of(static_cast<Lane>(lane))] = nth(seconds, lane);
  return out;
}

std::string chain_text(const std::array<double, kLanes>& bound, double seconds) {
  std::vector<int> lanes;
  for (int lane = 0; lane < kLanes; ++lane)
    if (nth(bound, lane) > 0.005 * seconds) lanes.push_back(lane);
  std::stable_sort(lanes.begin(), lanes.end(), [&](int a, int b) { return nth(bound, a) > nth(bound, b); });
  std::string out;
  for (const int lane : lanes)
    out += fmt::format("{}{} {}", out.empty() ? "" : ", ", name_of(static_cast<Lane>(lane)), percent(nth(bound, lane), seconds));
  return out;
}

}  // namespace

std::string unsteady_note() { return as_called("measured on a busy machine: run `zerostep bench machine` again"); }

std::string prediction_text(const TrainingPlan& plan, const Prediction& prediction) {
  std::string out =
      fmt::format("\nTime of a step, predicted for {}{}\n", prediction.machine, prediction.is_unsteady ? ", " + unsteady_note() : "");
  const bool several = plan.steps.size() > 1;
  out += fmt::format("  {:<30} {}{}, {} tokens/s\n", "step", human_step_time(prediction.step_seconds), several ? " on average" : "",
                     grouped(static_cast<int64_t>(prediction.tokens_per_second + 0.5)));
  out += fmt::format("  {:<30} {} (of the longest chain of actions: {})\n", "bound by", name_of(prediction.bound_by),
                     chain_text(prediction.bound_seconds, prediction.step_seconds));
  for (size_t i = 0; i < prediction.steps.size(); ++i) {
    const auto& [kind, share, simulation] = prediction.steps[i];
    if (several)
      out += fmt::format("  a step of {}: {}, {} of the steps\n", name_of(kind), human_step_time(simulation.seconds), percent(share, 1));
    out += picture_of(plan.steps[i].plan, simulation);
  }
  return out;
}

void add_prediction(const Prediction& prediction, ordered_json& plan) {
  plan["step_seconds"] = prediction.step_seconds;
  plan["tokens_per_second"] = prediction.tokens_per_second;
  plan["bound_by"] = name_of(prediction.bound_by);
  plan["machine_is_unsteady"] = prediction.is_unsteady;
  plan["lane_seconds"] = lanes_json(prediction.lane_seconds);
}

void add_prediction(const Simulation& simulation, ordered_json& step) {
  step["step_seconds"] = simulation.seconds;
  step["bound_by"] = name_of(simulation.bound_by);
  step["lane_seconds"] = lanes_json(simulation.lane_seconds);
}

void write_simulated_trace(const std::string& path, const TrainingPlan& plan, const Prediction& prediction) {
  Trace trace(0);
  double begin = 0;
  for (size_t i = 0; i < prediction.steps.size(); ++i) {
    const Plan& step = plan.steps[i].plan;
    const Simulation& simulation = prediction.steps[i].simulation;
    for (int a = 0; a < std::ssize(simulation.actions); ++a) {
      const Action& action = step.action(a);
      const SimulatedAction& at = nth(simulation.actions, a);
      // Ranks agree even where that takes no time.
      if (at.end > at.begin || action.kind == ActionKind::Agree)
        trace.add(stream_name(action.lane), trace_name(plan.layout, step, action), begin + at.begin, begin + at.end);
    }
    begin += simulation.seconds;
  }
  trace.write(path);
}

}  // namespace zerostep
