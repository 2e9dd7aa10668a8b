#include "experiments/sweep/journal.h"

#include <cmath>

#include "base/error.h"
#include "experiments/records/read_file.h"
#include "models/text_file.h"
#include "runtime/report/metrics.h"

namespace zerostep {
namespace {

// Metrics that the end of a run is written with, so that a run that is archived keeps them.
template <typename Row, typename Visit>
void visit_metrics(Row& row, const Visit& visit) {
  visit("final_loss", row.final_loss);
  visit("last_loss", row.last_loss);
  visit("best_eval_loss", row.best_eval_loss);
  visit("device_peak_bytes", row.device_peak_bytes);
  visit("tokens_per_second", row.tokens_per_second);
}

// What an event says of its run.
void take(const nlohmann::json& event, std::map<std::string, FormerRun>& runs) {
  const std::string kind = event.value("event", ""), name = event.value("run", "");
  FormerRun& run = runs[name];
  SweepRow& row = run.row;
  row.run = name;
  if (kind == "start") {
    row.values.clear();
    const nlohmann::json values = event.value("values", nlohmann::json::object());
    for (const auto& [path, value] : values.get_ref<const nlohmann::json::object_t&>()) row.values.emplace_back(path, value);
    row.device = event.value("device", "");
    row.state = SweepState::Interrupted;  // unless its end follows
    row.exit.reset();
    row.error.clear();
    run.command = event.value("command", std::vector<std::string>());
    run.archive.clear();  // it has an older state
  }
  if (kind == "running" && row.started.empty()) row.started = event.value("time", "");
  if (kind == "end") {
    row.state = sweep_state(event.value("state", "")).value_or(SweepState::Interrupted);
    row.exit = event.contains("exit") ? std::optional(event["exit"].get<int>()) : std::nullopt;
    row.seconds = event.value("seconds", 0.0);
    row.steps = event.value("steps", int64_t{0});
    visit_metrics(row, [&](const char* metric, std::optional<double>& value) {
      value = event.contains(metric) ? std::optional(event[metric].get<double>()) : std::nullopt;
    });
    row.error = event.value("error", "");
  }
  if (kind == "archive") {
    run.archive = event.value("archive", "");
    // It may have ended after its sweep was killed.
    if (event.value("done", false)) row.state = SweepState::Done;
  }
}

template <typename Use>
void for_each_event(const std::filesystem::path& file, const Use& use) {
  const std::string text = read_file(file);
  const size_t whole = text.rfind('\n') == text.npos ? 0 : text.rfind('\n') + 1;  // what follows is cut
  for_each_line(std::string_view(text).substr(0, whole), [&](std::string_view line, int64_t number) {
    const nlohmann::json event = nlohmann::json::parse(line, nullptr, false);
    if (!event.is_object())
      fail_input(
          "{}: line {} is no event of a sweep's journal: a JSON object is expected. Take the line away, or the file back from a copy",
          file.string(), number);
    try {
      use(event);
    } catch (const nlohmann::json::exception&) {
      fail_input("{}: line {} is no event of a sweep's journal: a value is of another type than it was written with", file.string(),
                 number);
    }
  });
}

}  // namespace

std::map<std::string, FormerRun> Journal::read(const std::filesystem::path& file) {
  std::map<std::string, FormerRun> out;
  for_each_event(file, [&](const nlohmann::json& event) {
    if (event.contains("run")) take(event, out);  // others are of the whole sweep
  });
  return out;
}

std::vector<std::string> Journal::submitted_jobs(const std::filesystem::path& file) {
  std::vector<std::string> out;
  for_each_event(file, [&](const nlohmann::json& event) {
    if (event.value("event", "") == "submit") out.push_back(event.value("slurm_job", ""));
  });
  return out;
}

Journal::Journal(const std::filesystem::path& file) {
  // A line that a killed sweep has cut ends here.
  keep_lines(file.string(), [](std::string_view) { return true; });
  file_ = OutputFile(file.string(), OutputFile::Mode::Append);
}

std::string Journal::append(const std::string& event, nlohmann::ordered_json more) {
  std::string now = timestamp_now();
  nlohmann::ordered_json line{{"time", now}, {"event", event}};
  line.update(more);
  file_.write(line.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n");
  return now;
}

void Journal::begin(const std::string& sweep, size_t runs, bool resumes) {
  append(resumes ? "resume" : "begin", {{"sweep", sweep}, {"runs", runs}});
}

void Journal::start(const SweepRow& row, const std::vector<std::string>& command) {
  nlohmann::ordered_json values = nlohmann::ordered_json::object();
  for (const auto& [path, value] : row.values) values[path] = value;
  append("start", {{"run", row.run}, {"values", values}, {"device", row.device}, {"command", command}});
}

std::string Journal::running(const std::string& run) { return append("running", {{"run", run}}); }

void Journal::end(const SweepRow& row) {
  nlohmann::ordered_json more{{"run", row.run}, {"state", name_of(row.state)}, {"seconds", row.seconds}, {"steps", row.steps}};
  if (row.exit) more["exit"] = *row.exit;
  visit_metrics(row, [&](const char* metric, const std::optional<double>& value) {
    if (value && std::isfinite(*value)) more[metric] = *value;
  });
  if (!row.error.empty()) more["error"] = row.error;
  append("end", more);
}

void Journal::archived(const std::string& run, const std::string& archive, bool is_done) {
  append("archive", {{"run", run}, {"archive", archive}, {"done", is_done}});
}

void Journal::submitted(const std::string& slurm_job) { append("submit", {{"slurm_job", slurm_job}}); }

void Journal::note(const std::string& event, const std::string& text) { append(event, {{"text", text}}); }

}  // namespace zerostep
