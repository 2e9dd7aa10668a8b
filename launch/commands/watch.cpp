#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <thread>

#include "base/console.h"
#include "base/format.h"
#include "base/gpu_load.h"
#include "experiments/text/live_lines.h"
#include "experiments/watch/process_use.h"
#include "experiments/watch/status_line.h"
#include "launch/commands/commands.h"
#include "runtime/report/columns.h"
#include "runtime/report/folder_lock.h"
#include "runtime/report/run_log.h"

namespace zerostep {
namespace {

using Clock = std::chrono::steady_clock;
constexpr int kUnlimited = std::numeric_limits<int>::max();

double seconds_since_epoch() { return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count(); }
double seconds_of(Clock::time_point time) { return std::chrono::duration<double>(time.time_since_epoch()).count(); }

// Processor time of the runs' processes from one look to the next.
class Loads {
 public:
  // The first time that it sees a run it looks at its processes twice.
  void add_to(std::vector<RunStatus>& runs) {
    constexpr std::chrono::milliseconds kBetween(300);
    bool is_new = false;
    for (RunStatus& run : runs) {
      if (run.state != RunState::Running) continue;
      Seen& seen = seen_[run.folder];
      if (seen.owner == run.owner) continue;
      seen = {run.owner, processes_of(run.owner), {}, 0};
      look(seen);
      is_new = true;
    }
    if (is_new) std::this_thread::sleep_for(kBetween);
    for (RunStatus& run : runs) {
      const auto it = seen_.find(run.folder);
      if (run.state != RunState::Running || it == seen_.end() || it->second.processes.empty()) continue;
      Seen& seen = it->second;
      const Seen before = seen;
      look(seen);
      if (seen.use.processes == 0 || seen.at <= before.at) continue;
      run.load = {seen.use.processes, std::max(0.0, seen.use.cpu_seconds - before.use.cpu_seconds) / (seen.at - before.at),
                  seen.use.resident_bytes};
    }
  }

 private:
  struct Seen {
    std::string owner;
    std::vector<int> processes;
    ProcessUse use;
    double at = 0;
  };
  static void look(Seen& seen) {
    seen.use = use_of(seen.processes);
    seen.at = seconds_of(Clock::now());
  }
  std::map<std::string, Seen> seen_;
};

std::vector<RunStatus> look_at(const std::vector<std::string>& places, StatusReader& reader, Loads& loads) {
  std::vector<RunStatus> out;
  const double now = seconds_since_epoch();
  for (const RunRecord& run : find_runs(places)) out.push_back(reader.status_of(run, now));
  loads.add_to(out);
  return out;
}

bool is_running(const RunStatus& run) { return run.state == RunState::Running; }

// Names longer than `most_of_name` columns lose their beginning, which sweeps have in common.
std::vector<std::string> lines_of(std::vector<RunStatus> runs, int most_of_name = kUnlimited, int most = kUnlimited) {
  int columns = 0;
  for (RunStatus& run : runs) {
    for (std::string* text : {&run.name, &run.why, &run.unread}) *text = visible(*text);
    if (columns_of_text(run.name) > most_of_name) {
      std::string_view end = run.name;
      while (columns_of_text(end) > most_of_name - 1) end.remove_prefix(first_columns(end, 1).size());
      run.name = "~" + std::string(end);
    }
    columns = std::max(columns, columns_of_text(run.name));
  }
  std::vector<std::string> out;
  for (const RunStatus& run : runs) out.push_back(status_line(run, columns, most));
  return out;
}

// The GPUs of this host, where some run is on one.
std::vector<std::string> gpu_lines(const std::vector<RunStatus>& runs) {
  std::vector<std::string> out;
  const bool uses_gpus = std::any_of(runs.begin(), runs.end(), [](const RunStatus& run) { return is_running(run) && run.gpu_bytes >= 0; });
  if (!uses_gpus) return out;
  for (const GpuLoad& gpu : gpu_loads())
    out.push_back(fmt::format("gpu {} | {} | {:.0f} % busy | {} of {}", out.size(), gpu.name, 100 * gpu.busy, human_bytes(gpu.used_bytes),
                              human_bytes(gpu.total_bytes)));
  return out;
}

// Lines at the end of a terminal, redrawn where they stand: what is running first, as many as there is room for.
class Screen {
 public:
  void draw(std::vector<RunStatus> runs) {
    const auto [rows, columns] = terminal_size(STDOUT_FILENO);
    std::stable_partition(runs.begin(), runs.end(), is_running);
    constexpr int kBeside = 105, kLeastOfName = 16;  // columns of what stands beside a name
    std::vector<std::string> lines = lines_of(runs, std::max(kLeastOfName, columns - kBeside), columns - 1);
    for (std::string& gpu : gpu_lines(runs)) lines.push_back(std::move(gpu));
    const size_t room = static_cast<size_t>(std::max(3, rows)) - 1;
    if (lines.size() > room) {
      const size_t left_out = lines.size() - room + 1;
      lines.resize(room - 1);
      lines.push_back(fmt::format("... and {} more lines", left_out));
    }
    for (std::string& line : lines) line = cut_to_columns(line, columns - 1);
    print_out(drawn_.draw(lines));
    flush_out();
  }

 private:
  LiveLines drawn_;
};

// In a pipe: a line of each run that has come further or has another state.
class Lines {
 public:
  void print(const std::vector<RunStatus>& runs, bool json) {
    const std::vector<std::string> lines = lines_of(runs);
    for (size_t i = 0; i < runs.size(); ++i) {
      const std::string what = fmt::format("{} {} {}", runs[i].step, name_of(runs[i].state), runs[i].is_silent());
      std::string& said = said_[runs[i].folder + runs[i].name];
      if (said == what) continue;
      said = what;
      json ? print_out("{}\n", status_json(runs[i]).dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace))
           : print_out("{}\n", lines[i]);
    }
    flush_out();
  }

 private:
  std::map<std::string, std::string> said_;
};

}  // namespace

int watch(const WatchArguments& arguments) {
  const bool redraws = !arguments.once && !arguments.json && stdout_terminal().present;
  const double every = arguments.every > 0 ? arguments.every : redraws ? 1 : 10;
  StatusReader reader;
  Loads loads;
  Screen screen;
  Lines lines;
  while (true) {
    const Clock::time_point begin = Clock::now();
    const std::vector<RunStatus> runs = look_at(arguments.places, reader, loads);
    redraws ? screen.draw(runs) : lines.print(runs, arguments.json);
    if (arguments.once) {
      for (const std::string& gpu : arguments.json ? std::vector<std::string>() : gpu_lines(runs)) print_out("{}\n", gpu);
      return kDone;
    }
    // A sweep owns its folder, also between two runs.
    const bool is_swept =
        std::any_of(arguments.places.begin(), arguments.places.end(), [](const std::string& place) { return FolderLock::is_owned(place); });
    if (!is_swept && std::none_of(runs.begin(), runs.end(), is_running)) return kDone;
    // Files of many rows take their time to read: most of it is the runs'.
    const auto took = Clock::now() - begin;
    std::this_thread::sleep_for(
        std::max<Clock::duration>(std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(every)), 4 * took));
  }
}

}  // namespace zerostep
