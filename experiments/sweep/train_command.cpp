#include "experiments/sweep/train_command.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <string_view>

#include "experiments/records/run_record.h"
#include "runtime/checkpoint/manifest.h"

namespace zerostep {
namespace {

// The first setting that a sweep adds to those of a point.
constexpr std::string_view kName = "run.name=";

// Anything but what the sweep itself has put there: a beginning without checkpoints, or a part of one.
bool holds_files(const std::filesystem::path& folder) {
  std::error_code error;
  for (const std::filesystem::directory_entry& entry : std::filesystem::directory_iterator(folder, error))
    if (entry.path().filename() != "output.txt") return true;
  return false;
}

}  // namespace

int64_t checkpoint_interval(const SweepRequest& request, size_t run) {
  const int64_t given = request.points[run].loaded.config.run.checkpoint_interval;
  return given == 0 && request.file.search ? request.planned[run].steps : given;
}

std::vector<std::string> train_command(const SweepRequest& request, size_t run, int64_t steps) {
  const SweepPoint& point = request.points[run];
  const std::filesystem::path folder = std::filesystem::path(request.file.folder()) / point.name;
  const SweepResources& resources = request.file.resources;
  std::vector<std::string> command;
  if (resources.ranks > 1 && !resources.uses_slurm) {
    command = {"mpirun", "--oversubscribe", "--bind-to", "none", "-np", std::to_string(resources.ranks)};
    if (::geteuid() == 0) command.insert(command.begin() + 1, "--allow-run-as-root");
  }
  command.insert(command.end(), {request.program, "train", request.base});
  const auto set = [&](const std::string& text) { command.insert(command.end(), {"--set", text}); };
  for (const Setting& setting : point.set) set(setting.text);
  set(std::string(kName) + nlohmann::json(point.name).dump());
  set("run.output_dir=" + nlohmann::json(request.file.folder()).dump());
  if (!resources.gpus.empty() && point.loaded.config.run.device == "auto") set("run.device=\"cuda\"");
  // A folder outside the run's own is shared by all: each run has a part of it.
  const MonitorConfig& monitor = point.loaded.config.monitor;
  for (const auto& [block, series] : {std::pair("csv_monitor", &monitor.csv), std::pair("tensorboard", &monitor.tensorboard)})
    if (series->enabled && !series->output_path.empty()) {
      set(fmt::format("{}.output_path={}", block,
                      nlohmann::json((std::filesystem::path(series->output_path) / series->job_name).string()).dump()));
      set(fmt::format("{}.job_name={}", block, nlohmann::json(point.name).dump()));
    }
  if (request.file.search) {
    if (point.loaded.config.run.checkpoint_interval == 0) set(fmt::format("run.checkpoint_interval={}", checkpoint_interval(request, run)));
    if (steps < request.planned[run].steps) command.insert(command.end(), {"--stop-after", std::to_string(steps)});
  }
  if (holds_checkpoints((folder / "checkpoints").string()))
    command.emplace_back("--resume");
  else if (holds_files(folder))
    command.emplace_back("--overwrite");
  return command;
}

std::optional<int> ranks_of(const std::vector<std::string>& command) {
  if (command.empty() || command[0] != "mpirun") return std::nullopt;
  const auto option = std::find(command.begin(), command.end(), "-np");
  int ranks = 0;
  if (option == command.end() || option + 1 == command.end()) return std::nullopt;
  const std::string& text = option[1];
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), ranks);
  return error == std::errc() && end == text.data() + text.size() && ranks > 0 ? std::optional(ranks) : std::nullopt;
}

std::vector<Setting> point_settings(const std::vector<std::string>& command) {
  std::vector<Setting> out;
  for (size_t i = 0; i + 1 < command.size(); ++i) {
    if (command[i] != "--set") continue;
    if (command[i + 1].starts_with(kName)) break;
    out.push_back({command[++i], ""});
  }
  return out;
}

}  // namespace zerostep
