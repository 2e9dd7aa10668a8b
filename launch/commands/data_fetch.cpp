#include <fmt/format.h>
#include <unistd.h>

#include <deque>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/console.h"
#include "base/error.h"
#include "base/format.h"
#include "base/steady_seconds.h"
#include "experiments/fetch/fetch_data_set.h"
#include "experiments/fetch/hub_settings.h"
#include "experiments/fetch/hub_source.h"
#include "launch/commands/commands.h"
#include "runtime/config/catalogue.h"
#include "runtime/report/columns.h"

namespace zerostep {
namespace {

using schema::Catalogue;

// On a terminal one line that changes; elsewhere a line for each file and every ten seconds.
class FetchProgress {
 public:
  void say(const std::string& text) {
    if (has_terminal_) show_status("");
    print_err("{}\n", text);
  }

  void show(const FetchState& state) {
    const double now = steady_seconds();
    if (state.is_whole && !has_terminal_) {
      print_err("'{}' is here: {}, file {} of {}\n", state.file, human_bytes(state.bytes_of_file), state.file_number, state.num_files);
      shown_ = now;
    }
    if (points_.empty() || now - points_.back().first >= kSecondsBetweenPoints) {
      points_.emplace_back(now, state.fetched_bytes);
      if (points_.size() > kMostPoints) points_.pop_front();
    }
    if (shown_ == 0) shown_ = now - kSecondsBetweenLines + kSecondsBeforeFirst;
    if (now - shown_ < (has_terminal_ ? kSecondsBetweenStatuses : kSecondsBetweenLines)) return;
    shown_ = now;
    const std::string line = text(state, now);
    has_terminal_ ? show_status(first_columns(visible(line), terminal_size(STDERR_FILENO).columns - 1)) : print_err("{}\n", line);
  }

  void end() const {
    if (has_terminal_) show_status("");
  }

 private:
  static constexpr double kSecondsBetweenLines = 10, kSecondsBetweenStatuses = 0.1, kSecondsBetweenPoints = 1, kSecondsBeforeFirst = 0.5;
  static constexpr size_t kMostPoints = 10;

  std::string text(const FetchState& state, double now) const {
    // Of what depends on its rows, the file alone is known.
    const int64_t done = state.bytes_to_fetch ? state.fetched_bytes : state.num_bytes;
    const int64_t all = state.bytes_to_fetch.value_or(state.bytes_of_file);
    const auto& [since, bytes_then] = points_.front();
    const double rate = now > since ? static_cast<double>(state.fetched_bytes - bytes_then) / (now - since) : 0;
    std::string out = fmt::format("file {} of {} | {} of {}", state.file_number, state.num_files, human_bytes(done), human_bytes(all));
    if (all > 0) out += fmt::format(" ({:.0f} %)", 100 * static_cast<double>(done) / static_cast<double>(all));
    if (rate > 0)
      out +=
          fmt::format(" | {}/s | {} left", human_bytes(static_cast<int64_t>(rate)), human_duration(static_cast<double>(all - done) / rate));
    return out + fmt::format(" | {}", state.file);
  }

  const bool has_terminal_ = ::isatty(STDERR_FILENO) != 0;
  double shown_ = 0;
  std::deque<std::pair<double, int64_t>> points_;  // time, bytes fetched
};

}  // namespace

int fetch_data(const DataFetchArguments& arguments) {
  const Catalogue catalogue = Catalogue::read(arguments.catalogue);
  const Catalogue::Entry* entry = catalogue.find(arguments.name);
  if (entry == nullptr) fail_input("'{}' is not {}", arguments.name, catalogue.names_beside(arguments.name));
  const HubSource source(catalogue, *entry);
  FetchProgress progress;
  FetchRequest request;
  request.name = arguments.name;
  request.hub = hub_settings_of_environment();
  request.documents = arguments.documents;
  request.progress = [&](const FetchState& state) { progress.show(state); };
  request.say = [&](const std::string& text) { progress.say(text); };
  const double start = steady_seconds();
  FetchOutcome done;
  try {
    done = fetch_data_set(source, request);
  } catch (...) {
    progress.end();
    throw;
  }
  progress.end();
  if (arguments.json) {
    nlohmann::ordered_json told{{"name", arguments.name},
                                {"repository", source.repository()},
                                {"revision", source.revision()},
                                {"commit", done.commit},
                                {"folder", source.folder()},
                                {"files", done.num_files},
                                {"all_files", done.all_files},
                                {"bytes", done.num_bytes},
                                {"fetched_files", done.fetched_files},
                                {"fetched_bytes", done.fetched_bytes}};
    if (done.rows) told["rows"] = *done.rows;
    print_out("{}\n", told.dump(1));
    return kDone;
  }
  std::string text = fmt::format("{}: {}", arguments.name, counted(done.num_files, "file"));
  if (done.num_files < done.all_files) text += fmt::format(" of {}", grouped(done.all_files));
  text += fmt::format(", {}", human_bytes(done.num_bytes));
  if (done.rows) text += fmt::format(", {} rows", grouped(*done.rows));
  text += fmt::format(" in {}", source.folder());
  text += done.fetched_files == 0 ? "; nothing was missing"
                                  : fmt::format("; {} fetched, {} in {}", done.fetched_files, human_bytes(done.fetched_bytes),
                                                human_duration(steady_seconds() - start));
  print_out("{}\n", text);
  if (done.rows && *done.rows < arguments.documents) print_out("That is all of it.\n");
  print_out("A configuration names it as \"data\": {{\"train\": \"{}\"{}}}.\n", arguments.name,
            arguments.catalogue.empty() ? "" : fmt::format(", \"catalogue\": {}", nlohmann::json(catalogue.file()).dump()));
  return kDone;
}

}  // namespace zerostep
