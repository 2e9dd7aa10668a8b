#include "experiments/sweep/journal.h"

#include <fmt/format.h>

#include <cmath>
#include <optional>

#include "base/error.h"
#include "base/json_depth.h"
#include "experiments/records/read_file.h"
#include "models/text_file.h"
#include "runtime/config/document.h"
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

// A line of a journal. InputError naming file, line and field where a value is of another type than it was written with.
class Event {
 public:
  Event(const std::filesystem::path& file, int64_t line, std::string_view text) : file_(file), line_(line) {
    value_ = nlohmann::json::parse(unless_too_deep(text), nullptr, false);
    if (!value_.is_object()) fail("no event of a sweep's journal: a JSON object is expected");
  }
  bool has(const char* field) const { return value_.contains(field); }
  std::string text(const char* field) const {
    const nlohmann::json* value = find(field);
    if (value != nullptr && !value->is_string()) wrong(field, "a text");
    return value == nullptr ? "" : value->get<std::string>();
  }
  std::optional<double> number(const char* field) const {
    const nlohmann::json* value = find(field);
    if (value != nullptr && !value->is_number()) wrong(field, "a number");
    return value == nullptr ? std::nullopt : std::optional(value->get<double>());
  }
  std::optional<int64_t> integer(const char* field) const {
    const nlohmann::json* value = find(field);
    if (value != nullptr && !value->is_number_integer()) wrong(field, "an integer");
    return value == nullptr ? std::nullopt : std::optional(value->get<int64_t>());
  }
  bool flag(const char* field) const {
    const nlohmann::json* value = find(field);
    if (value != nullptr && !value->is_boolean()) wrong(field, "true or false");
    return value != nullptr && value->get<bool>();
  }
  KeyValues values(const char* field) const {
    const nlohmann::json* value = find(field);
    if (value != nullptr && !value->is_object()) wrong(field, "an object of values by key");
    KeyValues out;
    if (value != nullptr)
      for (const auto& [path, entry] : value->items()) out.emplace_back(path, entry);
    return out;
  }
  std::vector<std::string> texts(const char* field) const {
    std::vector<std::string> out;
    const nlohmann::json* value = find(field);
    if (value == nullptr) return out;
    if (!value->is_array()) wrong(field, "a list of texts");
    for (const nlohmann::json& entry : *value) {
      if (!entry.is_string()) wrong(field, "a list of texts");
      out.push_back(entry.get<std::string>());
    }
    return out;
  }
  // A number that may stand as a text.
  std::string number_text(const char* field) const {
    const nlohmann::json* value = find(field);
    if (value != nullptr && value->is_number_integer()) return value->dump();
    if (value != nullptr && !value->is_string()) wrong(field, "a number");
    return value == nullptr ? "" : value->get<std::string>();
  }
  SweepState state(const char* field) const {
    const std::optional<SweepState> found = sweep_state(text(field));
    if (!found) wrong(field, "the name of a state");
    return *found;
  }

 private:
  const nlohmann::json* find(const char* field) const {
    const auto it = value_.find(field);
    return it == value_.end() || it->is_null() ? nullptr : &*it;
  }
  [[noreturn]] void wrong(const char* field, const char* expected) const {
    fail(fmt::format("no event of a sweep's journal: `{}` is {}; {} is expected", field,
                     value_.contains(field) ? schema::shown(value_.at(field)) : "missing", expected));
  }
  [[noreturn]] void fail(const std::string& what) const {
    fail_input("{}: line {} is {}. Take the line away, or the file back from a copy", file_.string(), line_, what);
  }

  const std::filesystem::path& file_;
  int64_t line_;
  nlohmann::json value_;
};

// What an event says of its run.
void take(const Event& event, std::map<std::string, FormerRun>& runs) {
  const std::string kind = event.text("event"), name = event.text("run");
  FormerRun& run = runs[name];
  SweepRow& row = run.row;
  row.run = name;
  if (kind == "start") {
    row.values = event.values("values");
    row.device = event.text("device");
    row.state = SweepState::Killed;  // unless its end follows
    row.exit.reset();
    row.error.clear();
    run.command = event.texts("command");
    run.archive.clear();  // it has an older state
    run.runs_since.clear();
    row.seconds = event.number("seconds").value_or(row.seconds);  // older journals do not say it
  }
  if (kind == "running") run.runs_since = event.text("time");
  if (kind == "running" && row.started.empty()) row.started = run.runs_since;
  if (kind == "end") {
    run.runs_since.clear();
    row.state = event.state("state");
    const std::optional<int64_t> exit = event.integer("exit");
    row.exit = exit ? std::optional(static_cast<int>(*exit)) : std::nullopt;
    row.seconds = event.number("seconds").value_or(0);
    row.steps = event.integer("steps").value_or(0);
    visit_metrics(row, [&](const char* metric, std::optional<double>& value) { value = event.number(metric); });
    row.has_diverged = event.flag("diverged");  // older journals do not say it
    // Its name in older journals.
    if (!event.has("final_loss")) row.final_loss = event.number("loss");
    row.error = event.text("error");
  }
  if (kind == "archive") {
    run.archive = event.text("archive");
    // It may have ended after its sweep was killed.
    if (event.flag("done")) row.state = SweepState::Done;
  }
}

template <typename Use>
void for_each_event(const std::filesystem::path& file, const Use& use) {
  const std::string text = read_file(file);
  const size_t whole = text.rfind('\n') == text.npos ? 0 : text.rfind('\n') + 1;  // what follows is cut
  for_each_line(std::string_view(text).substr(0, whole), [&](std::string_view line, int64_t number) { use(Event(file, number, line)); });
}

}  // namespace

std::map<std::string, FormerRun> Journal::read(const std::filesystem::path& file) {
  std::map<std::string, FormerRun> out;
  for_each_event(file, [&](const Event& event) {
    if (event.has("run")) take(event, out);  // others are of the whole sweep
  });
  return out;
}

std::vector<std::string> Journal::submitted_jobs(const std::filesystem::path& file) {
  std::vector<std::string> out;
  for_each_event(file, [&](const Event& event) {
    if (event.text("event") == "submit") out.push_back(event.number_text("slurm_job"));
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
  append("start", {{"run", row.run}, {"values", values}, {"device", row.device}, {"seconds", row.seconds}, {"command", command}});
}

std::string Journal::running(const std::string& run) { return append("running", {{"run", run}}); }

void Journal::end(const SweepRow& row) {
  nlohmann::ordered_json more{{"run", row.run}, {"state", name_of(row.state)}, {"seconds", row.seconds}, {"steps", row.steps}};
  if (row.exit) more["exit"] = *row.exit;
  visit_metrics(row, [&](const char* metric, const std::optional<double>& value) {
    if (value && std::isfinite(*value)) more[metric] = *value;
  });
  more["diverged"] = row.has_diverged;
  if (!row.error.empty()) more["error"] = row.error;
  append("end", more);
}

void Journal::archived(const std::string& run, const std::string& archive, bool is_done) {
  append("archive", {{"run", run}, {"archive", archive}, {"done", is_done}});
}

void Journal::submitted(const std::string& slurm_job) { append("submit", {{"slurm_job", slurm_job}}); }

void Journal::note(const std::string& event, const std::string& text) { append(event, {{"text", text}}); }

}  // namespace zerostep
