#include "tests/launch/support/sweep_place.h"

#include <algorithm>
#include <chrono>
#include <csignal>
#include <fstream>
#include <sstream>
#include <string_view>
#include <thread>

namespace zerostep::testing {
namespace {

// A line of /proc/PROCESS/status without its name; "": there is none.
std::string status_of(pid_t process, const std::string& name) {
  std::ifstream status("/proc/" + std::to_string(process) + "/status");
  for (std::string line; std::getline(status, line);)
    if (line.starts_with(name + ":\t")) return line.substr(name.size() + 2);
  return "";
}

// Whether SIGUSR1 waits for a process that is held.
bool is_asked(pid_t process) {
  const std::string pending = status_of(process, "ShdPnd");
  return !pending.empty() && (std::stoull(pending, nullptr, 16) >> (SIGUSR1 - 1) & 1) != 0;
}

std::vector<std::string> cells_of(const std::string& line) {
  std::vector<std::string> cells(1);
  bool is_quoted = false;
  for (char c : line) {
    if (c == '"') is_quoted = !is_quoted;
    if (c == ',' && !is_quoted) cells.emplace_back();
    if (c != '"' && (c != ',' || is_quoted)) cells.back() += c;
  }
  return cells;
}

}  // namespace

std::string SweepCommand::file(const std::string& blocks) {
  place_.write("config.json", R"({"train_batch_size": 2, "train_micro_batch_size_per_gpu": 1, "seed": 3,
  "optimizer": {"type": "AdamW", "params": {"lr": 1e-3}},
  "model": {"family": "gpt2", "n_layer": 1, "n_embd": 16, "n_head": 1, "n_positions": 16},
  "data": {"train": ")" + place_.path("corpus.txt") +
                                  R"(", "sequence_length": 8},
  "run": {"name": "test", "output_dir": ")" +
                                  place_.path("runs") + R"(", "steps": 4}})");
  place_.write("sweep.json", "{\"base\": \"" + place_.path("config.json") + "\", \"name\": \"many\", \"output_dir\": \"" +
                                 place_.path("runs") + "\", " + blocks + "}");
  return place_.path("sweep.json");
}

std::vector<std::string> SweepCommand::command(const std::vector<std::string>& options) const {
  std::vector<std::string> out{"env", program(), "sweep", place_.path("sweep.json")};
  out.insert(out.end(), options.begin(), options.end());
  return out;
}

Outcome SweepCommand::sweep(const std::vector<std::string>& options) const {
  return place_.run_command(command(options), {.timeout_seconds = 120});
}

Outcome SweepCommand::sweep_without_runs(std::vector<std::string> options) const {
  options.insert(options.begin(), {"sweep", place_.path("sweep.json")});
  return place_.run(options);
}

std::map<std::string, std::map<std::string, std::string>> SweepCommand::rows() const {
  std::istringstream lines(place_.read("runs/many/runs.csv"));
  std::map<std::string, std::map<std::string, std::string>> out;
  std::vector<std::string> names;
  for (std::string line; std::getline(lines, line);) {
    const std::vector<std::string> cells = cells_of(line);
    if (names.empty()) {
      names = cells;
      continue;
    }
    for (size_t i = 0; i < std::min(names.size(), cells.size()); ++i) out[cells[0]][names[i]] = cells[i];
  }
  return out;
}

size_t SweepCommand::count_state(const std::string& state) const {
  size_t out = 0;
  for (const auto& [run, row] : rows()) out += row.at("state") == state ? 1 : 0;
  return out;
}

SweepCommand::Rows SweepCommand::plain(Rows rows) {
  for (auto& row : rows)
    std::erase_if(row, [](const auto& cell) {
      return cell.first.find("time") != std::string::npos || cell.first.find("second") != std::string::npos ||
             cell.first.find("resident") != std::string::npos || cell.first == "host_peak_bytes";  // what checkpoints are staged in
    });
  return rows;
}

bool SweepCommand::comes(const std::function<bool()>& holds) {
  for (int i = 0; i < 3000 && !holds(); ++i) std::this_thread::sleep_for(std::chrono::milliseconds(10));
  return holds();
}

pid_t SweepCommand::process_of(const std::string& run) const {
  const std::string name = "run.name=\"" + run + "\"", folder = "run.output_dir=\"" + place_.path("runs/many") + "\"";
  for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
    const std::string number = entry.path().filename();
    if (number.find_first_not_of("0123456789") != std::string::npos) continue;
    std::ifstream in(entry.path() / "cmdline");
    const std::string text((std::istreambuf_iterator<char>(in)), {});
    if (text.find(name) != std::string::npos && text.find(folder) != std::string::npos) return std::stoi(number);
  }
  return 0;
}

pid_t SweepCommand::hold(const std::string& run, size_t least, size_t all) const {
  const pid_t process = place_.metrics("many/" + run).size() >= least ? process_of(run) : 0;
  if (process == 0) return 0;
  ::kill(process, SIGSTOP);
  // Stopped, or a zombie that nobody has heard of yet, or gone.
  const auto rests = [&] { return std::string_view("TZ").find(status_of(process, "State").substr(0, 1)) != std::string_view::npos; };
  if (comes(rests) && place_.metrics("many/" + run).size() < all) return process;
  ::kill(process, SIGCONT);
  return 0;
}

SweepCommand::HeldSweep SweepCommand::start_and_hold(const std::vector<std::string>& options, size_t least, const How& how) const {
  for (size_t steps = 100; steps <= 100000; steps *= 4) {
    HeldSweep out{.sweep = 0, .steps = steps, .options = {"--set", "run.steps=" + std::to_string(steps)}, .runs = {}};
    out.options.insert(out.options.end(), options.begin(), options.end());
    out.sweep = place_.start(command(out.options), how);
    bool is_too_late = false;
    const bool ends = comes([&] {
      for (const auto& [run, row] : rows()) {
        is_too_late = is_too_late || row.at("state") == "done";
        if (row.at("state") != "running" || out.runs.contains(run) || out.runs.size() == 2) continue;
        if (const pid_t process = hold(run, least, steps); process != 0) out.runs[run] = process;
      }
      return is_too_late || out.runs.size() == 2;
    });
    if (ends && !is_too_late) return out;
    ::kill(out.sweep, SIGINT);
    for (const auto& [run, process] : out.runs) ::kill(process, SIGCONT);
    place_.finish(out.sweep);
    std::filesystem::remove_all(place_.path("runs/many"));
    if (!ends) break;
  }
  ADD_FAILURE() << "no two runs of the sweep could be held";
  return {};
}

void SweepCommand::interrupt(const HeldSweep& held) const {
  ::kill(held.sweep, SIGINT);
  for (const auto& [run, process] : held.runs) EXPECT_TRUE(comes([&, p = process] { return is_asked(p); })) << run;
  for (const auto& [run, process] : held.runs) ::kill(process, SIGCONT);
}

}  // namespace zerostep::testing
