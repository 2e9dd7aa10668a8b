#include <fmt/format.h>
#include <unistd.h>

#include <chrono>
#include <deque>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/console.h"
#include "base/error.h"
#include "base/format.h"
#include "experiments/fetch/fetch_data_set.h"
#include "experiments/fetch/hub_settings.h"
#include "experiments/fetch/hub_source.h"
#include "launch/commands/commands.h"
#include "runtime/config/catalogue.h"

namespace zerostep {
namespace {

using schema::Catalogue;

double fetch_clock() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

// On a terminal one line that changes; elsewhere a line for each file and every ten seconds.
class FetchProgress {
 public:
  void say(const std::string& text) {
    if (has_terminal_) show_status("");
    print_err("{}\n", text);
  }

  void show(const FetchState& state) {
    const double now = fetch_clock();
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
    has_terminal_ ? show_status(line.substr(0, static_cast<size_t>(terminal_size(STDERR_FILENO).columns) - 1)) : print_err("{}\n", line);
  }

  void end() const {
    if (has_terminal_) show_status("");
  }

 private:
  static constexpr double kSecondsBetweenLines = 10, kSecondsBetweenStatuses = 0.1, kSecondsBetweenPoints = 1, kSecondsBeforeFirst = 0.5;
  static constexpr size_t kMostPoints = 10;

  std::string text(const FetchState& state, double now) const {
    // Of what depends on its rows, the file alone is known.
    const bool knows_all = state.bytes_to_fetch > 0;
    const int64_t done = knows_all ? state.fetched_bytes : state.num_bytes, all = knows_all ? state.bytes_to_fetch : state.bytes_of_file;
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
  const double start = fetch_clock();
  nlohmann::ordered_json told;
  try {
    told = fetch_data_set(source, request);
  } catch (...) {
    progress.end();
    throw;
  }
  progress.end();
  if (arguments.json) {
    print_out("{}\n", told.dump(1));
    return kDone;
  }
  const int64_t files = told["files"], fetched = told["fetched_files"];
  std::string text = fmt::format("{}: {}", arguments.name, counted(files, "file"));
  if (files < told["all_files"].get<int64_t>()) text += fmt::format(" of {}", grouped(told["all_files"].get<int64_t>()));
  text += fmt::format(", {}", human_bytes(told["bytes"].get<int64_t>()));
  if (told.contains("rows")) text += fmt::format(", {} rows", grouped(told["rows"].get<int64_t>()));
  text += fmt::format(" in {}", source.folder());
  text += fetched == 0 ? "; nothing was missing"
                       : fmt::format("; {} fetched, {} in {}", fetched, human_bytes(told["fetched_bytes"].get<int64_t>()),
                                     human_duration(fetch_clock() - start));
  print_out("{}\n", text);
  if (told.contains("rows") && told["rows"].get<int64_t>() < arguments.documents) print_out("That is all of it.\n");
  print_out("A configuration names it as \"data\": {{\"train\": \"{}\"{}}}.\n", arguments.name,
            arguments.catalogue.empty() ? "" : fmt::format(", \"catalogue\": {}", nlohmann::json(catalogue.file()).dump()));
  return kDone;
}

}  // namespace zerostep
