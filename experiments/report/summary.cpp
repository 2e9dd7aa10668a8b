#include "experiments/report/summary.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <set>

#include "base/error.h"
#include "base/format.h"
#include "experiments/plot/grouping.h"
#include "experiments/plot/x_values.h"
#include "experiments/report/telling_parts.h"

namespace zerostep {
namespace {

constexpr double kUnknown = RunSummary::kUnknown;

// The axis' values; none where the run does not tell them.
std::vector<double> axis_or_none(const PlotRun& run, const char* name) {
  try {
    return x_values(run, x_axis(name));
  } catch (const InputError&) {
    return {};
  }
}

double last_or_unknown(const std::vector<double>& values) { return values.empty() ? kUnknown : values.back(); }

// Means of a twentieth of the values that may be losses, from each on back; as many as there are rows, NaN before the first whole one.
std::vector<double> trailing_means(std::span<const double> values) {
  constexpr double kSpike = 1e3;
  const int64_t count = std::count_if(values.begin(), values.end(), is_loss);
  const auto window = static_cast<size_t>(std::max<int64_t>(1, count / 20));
  std::vector<double> out(values.size(), kUnknown), numbers;
  double sum = 0;
  for (size_t i = 0; i < values.size(); ++i) {
    if (!is_loss(values[i])) continue;
    numbers.push_back(values[i]);
    sum += values[i];
    if (numbers.size() > window) {
      const double gone = numbers[numbers.size() - 1 - window];
      sum -= gone;
      // What a spike leaves behind of its rounding would be larger than the others.
      if (std::abs(gone) > kSpike * std::abs(sum))
        sum = std::accumulate(numbers.end() - static_cast<std::ptrdiff_t>(window), numbers.end(), 0.0);
    }
    if (numbers.size() >= window) out[i] = sum / static_cast<double>(window);
  }
  return out;
}

RunSummary summary_of(const PlotRun& run, const std::vector<std::string>& keys) {
  RunSummary out;
  out.name = run.record.name;
  out.path = run.record.folder.empty() ? run.record.metrics.string() : run.record.folder.string();
  out.state = run.record.state;
  out.why = run.record.why;
  out.unread = run.record.unread;
  out.has_diverged = run.has_diverged;
  out.steps = run.table.num_rows();
  out.total_steps = run.record.total_steps();
  out.final_loss = final_mean(run.column("loss"));
  out.best_eval_loss = lowest(run.column("eval_loss"));
  out.best_eval_accuracy = highest(run.column("eval_accuracy"));
  out.seconds = last_or_unknown(axis_or_none(run, "seconds"));
  out.tokens_per_second = mean_speed(run.table);
  out.forwards = last_or_unknown(axis_or_none(run, "forwards"));
  out.device_peak_bytes = highest(run.column("device_peak_bytes"));
  out.host_peak_bytes = highest(run.column("host_peak_bytes"));
  out.file_peak_bytes = highest(run.column("file_peak_bytes"));
  out.planned_device_peak_bytes = run.record.planned_bytes("device");
  out.planned_host_peak_bytes = run.record.planned_bytes("host");
  out.planned_file_peak_bytes = run.record.planned_bytes("file");
  for (const std::string& key : keys) out.values.push_back(run.value(key));
  return out;
}

RunSummary summary_of(const AbsentRun& run, const RunKeys& own, const std::vector<std::string>& keys) {
  RunSummary out;
  out.name = run.record.name;
  out.path = run.is_archived() ? run.archive : run.record.folder.string();
  out.why = run.record.why;
  out.is_archived = run.is_archived();
  out.has_begun = run.is_archived();
  out.state = run.record.state;
  out.has_diverged = run.row.has_diverged;
  out.steps = run.row.steps;
  out.final_loss = run.row.final_loss.value_or(kUnknown);
  out.best_eval_loss = run.row.best_eval_loss.value_or(kUnknown);
  out.tokens_per_second = run.row.tokens_per_second.value_or(kUnknown);
  out.device_peak_bytes = run.row.device_peak_bytes.value_or(kUnknown);
  for (const std::string& key : keys) out.values.push_back(own.value(key));
  return out;
}

constexpr const char* kTask = "model.task";
constexpr const char* kTokenizer = "data.tokenizer";
constexpr const char* kEvaluation = "data.eval";

// Losses of language models are those of a token, which depends on the tokenizer.
void set_contest(RunSummary& run, const RunKeys& keys) {
  run.task = keys.value(kTask);
  if (run.task != "classification" && !keys.value(kTokenizer).empty())
    run.task += (run.task.empty() ? "tokenizer " : " with the tokenizer ") + keys.value(kTokenizer);
  run.evaluated_on = keys.value(kEvaluation);
  if (run.evaluated_on == "none") run.evaluated_on.clear();
}

// Of an absent run what its sweep does not set is that of another run of the sweep.
RunKeys with_keys_of_sweep(RunKeys own, const AbsentRun& absent, const std::vector<PlotRun>& runs, const std::vector<RunKeys>& keys) {
  std::error_code error;
  for (size_t i = 0; i < runs.size(); ++i) {
    if (runs[i].record.folder.empty() ||
        !std::filesystem::equivalent(runs[i].record.folder.parent_path(), absent.record.folder.parent_path(), error))
      continue;
    for (const char* key : {kTask, kTokenizer, kEvaluation}) own.values.emplace(key, keys[i].value(key));
    break;
  }
  return own;
}

// Of absent runs the keys are known that any of them has.
void add_absent(std::vector<RunKeys>& keys, const std::vector<AbsentRun>& absent) {
  const size_t first = keys.size();
  for (const AbsentRun& run : absent) keys.push_back({PlotRun{run.record, {}}.values(), false});
  std::set<std::string> known;
  for (size_t i = first; i < keys.size(); ++i)
    for (const auto& [path, value] : keys[i].values) known.insert(path);
  for (size_t i = first; i < keys.size(); ++i)
    for (const std::string& path : known) keys[i].values.emplace(path, "");
}

// "causal_lm (3 runs), not known of 2 runs".
std::string text_of_tasks(const std::vector<RunSummary>& runs) {
  std::map<std::string, int64_t> counts;
  for (const RunSummary& run : runs)
    if (run.has_begun) ++counts[run.task];
  const int64_t unknown = counts[""];
  counts.erase("");
  std::vector<std::string> parts;
  for (const auto& [task, count] : counts) parts.push_back(fmt::format("{} ({})", task, counted(count, "run")));
  if (unknown > 0) parts.push_back("not known of " + counted(unknown, "run"));
  return fmt::format("{}", fmt::join(parts, ", "));
}

void set_common_loss(Summary& summary, const std::vector<PlotRun>& runs) {
  const auto has_another_task = [&](const RunSummary& run) { return run.has_begun && run.task != summary.runs[0].task; };
  if (std::any_of(summary.runs.begin(), summary.runs.end(), has_another_task)) {
    summary.why_no_common_loss =
        "losses can be compared where they are of one task and tokenizer; here these are " + text_of_tasks(summary.runs);
    return;
  }
  std::vector<std::vector<double>> means;
  for (const PlotRun& run : runs) {
    means.push_back(trailing_means(run.column("loss")));
    const double best = run.flaw().empty() ? lowest(means.back()) : kUnknown;
    if (std::isfinite(best) && !(summary.common_loss >= best)) summary.common_loss = best;
  }
  if (!std::isfinite(summary.common_loss))
    summary.why_no_common_loss = "no run that neither failed nor was killed nor diverged has a loss yet";
  for (size_t i = 0; i < runs.size(); ++i) {
    const auto it = std::find_if(means[i].begin(), means[i].end(), [&](double mean) { return mean <= summary.common_loss; });
    if (it == means[i].end()) continue;
    const auto row = static_cast<size_t>(it - means[i].begin());
    RunSummary& out = summary.runs[i];
    out.steps_to_common = static_cast<double>(row + 1);
    if (const std::vector<double> seconds = axis_or_none(runs[i], "seconds"); !seconds.empty()) out.seconds_to_common = seconds[row];
    if (const std::vector<double> forwards = axis_or_none(runs[i], "forwards"); !forwards.empty()) out.forwards_to_common = forwards[row];
  }
}

}  // namespace

std::string RunSummary::final_loss_text() const {
  if (std::isnan(final_loss)) return flaw() == "diverged" ? "diverged" : "";
  return fmt::format("{:.5g}{}", final_loss, flaw().empty() ? "" : " (" + flaw() + ")");
}

namespace {

// The runs without a flaw that can be compared, in the order of their first ones.
std::vector<std::vector<size_t>> comparable(const std::vector<RunSummary>& runs) {
  std::vector<std::vector<size_t>> out;
  for (size_t i = 0; i < runs.size(); ++i) {
    if (!runs[i].flaw().empty() || !(std::isfinite(runs[i].final_loss) || std::isfinite(runs[i].best_eval_loss))) continue;
    auto group = std::find_if(out.begin(), out.end(), [&](const std::vector<size_t>& other) {
      return runs[other[0]].task == runs[i].task && runs[other[0]].evaluated_on == runs[i].evaluated_on;
    });
    if (group == out.end()) group = out.insert(out.end(), std::vector<size_t>());
    group->push_back(i);
  }
  return out;
}

}  // namespace

std::vector<Ranking> Summary::rankings(size_t most) const {
  const std::vector<std::vector<size_t>> groups = comparable(runs);
  std::vector<Ranking> out;
  for (const std::vector<size_t>& group : groups) {
    if (groups.size() > 1 && group.size() < 2) continue;
    Ranking ranking;
    const RunSummary& first = runs[group[0]];
    ranking.of = first.task + (first.task.empty() ? "" : ", ") +
                 (first.evaluated_on.empty() ? "not evaluated" : "evaluated on " + first.evaluated_on);
    ranking.is_by_evaluation = std::all_of(
        group.begin(), group.end(), [&](size_t i) { return std::isfinite(runs[i].best_eval_loss) || !std::isfinite(runs[i].final_loss); });
    ranking.best = group;
    std::erase_if(ranking.best, [&](size_t i) { return !std::isfinite(ranking.value(runs[i])); });
    std::stable_sort(ranking.best.begin(), ranking.best.end(),
                     [&](size_t a, size_t b) { return ranking.value(runs[a]) < ranking.value(runs[b]); });
    if (ranking.best.size() > most) ranking.best.resize(most);
    out.push_back(std::move(ranking));
  }
  return out;
}

std::vector<size_t> Summary::unranked() const {
  const std::vector<std::vector<size_t>> groups = comparable(runs);
  std::vector<size_t> out;
  for (const std::vector<size_t>& group : groups)
    if (groups.size() > 1 && group.size() < 2) out.push_back(group[0]);
  return out;
}

Summary summarize(const std::vector<PlotRun>& runs, const std::vector<AbsentRun>& absent) {
  Summary out;
  std::vector<RunKeys> own = keys_of(runs);
  add_absent(own, absent);
  const std::vector<std::string> differing = differing_keys(own);
  const std::set<std::string> following = following_keys(differing, own, keys_of_sweep(runs, absent));
  for (const std::string& key : differing) (following.contains(key) ? out.following : out.keys).push_back(key);
  for (const PlotRun& run : runs) out.runs.push_back(summary_of(run, out.keys));
  for (size_t i = 0; i < absent.size(); ++i) out.runs.push_back(summary_of(absent[i], own[runs.size() + i], out.keys));
  for (size_t i = 0; i < out.runs.size(); ++i) {
    RunSummary& run = out.runs[i];
    for (const std::string& key : out.following) run.following.push_back(own[i].value(key));
    for (const std::string& key : differing)
      if (!own[i].knows(key)) run.unknown_keys.insert(key);
    set_contest(run, i < runs.size() ? own[i] : with_keys_of_sweep(own[i], absent[i - runs.size()], runs, own));
  }
  for (RunKeys& keys : own)
    std::erase_if(keys.values,
                  [&](const auto& value) { return std::find(out.keys.begin(), out.keys.end(), value.first) == out.keys.end(); });
  out.telling = telling_keys(own, true);
  set_common_loss(out, runs);
  return out;
}

std::string RunSummary::state_text() const {
  if (!is_archived) return std::string(name_of(state));
  return state == RunState::Done ? "archived" : fmt::format("{}, archived", name_of(state));
}

const std::string& Summary::value_of(const RunSummary& run, const std::string& key) const {
  static const std::string kNone;
  const auto at = std::find(keys.begin(), keys.end(), key);
  return at == keys.end() ? kNone : run.values[static_cast<size_t>(at - keys.begin())];
}

bool Summary::has_accuracies() const {
  return std::any_of(runs.begin(), runs.end(), [](const RunSummary& run) { return std::isfinite(run.best_eval_accuracy); });
}

std::vector<std::string_view> columns_of_summary() {
  return {"step",
          "loss",
          "eval_loss",
          "tokens_per_second",
          "step_seconds",
          "timestamp",
          "device_peak_bytes",
          "host_peak_bytes",
          "file_peak_bytes",
          "eval_accuracy"};
}

}  // namespace zerostep
