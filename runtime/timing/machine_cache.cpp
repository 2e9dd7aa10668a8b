#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <limits>

#include "base/content_hash.h"
#include "base/error.h"
#include "runtime/memory/machine_description.h"
#include "runtime/timing/machine.h"

// One file for each machine, number of ranks and number of threads: "HASH_2x1.json".

namespace zerostep {
namespace {

namespace fs = std::filesystem;

// Files have five digits, so that one measurement's seconds as it was given and as it was read may differ by 1e-4; what differs by more
// than 1 % was asked for.
constexpr double kLonger = 1.01;

std::string folder() {
  const std::string cache = user_cache_folder();
  return cache.empty() ? "" : cache + "/machines";
}

// Nothing where the file is missing, damaged or of another version, or is none: a pipe would be waited for.
std::optional<Machine> machine_of(const std::string& file) {
  std::error_code ignored;
  if (!fs::is_regular_file(file, ignored)) return std::nullopt;
  try {
    return read_machine(file);
  } catch (const InputError&) {
    return std::nullopt;
  }
}

// Of the files of this machine. Fewer cores of the same kind do other work together.
std::string prefix() {
  const auto cores = static_cast<uint64_t>(sysconf(_SC_NPROCESSORS_ONLN));
  return ContentHash().add(machine_description()).add(cores).hex().substr(0, 16) + "_";
}

}  // namespace

std::optional<Machine> measured_machine(int ranks_per_host, int threads) {
  const std::string begin = prefix();
  std::optional<Machine> nearest;
  double least = std::numeric_limits<double>::infinity();
  std::error_code none;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder(), none)) {
    if (!entry.path().filename().string().starts_with(begin) || entry.path().extension() != ".json") continue;
    std::optional<Machine> machine = machine_of(entry.path().string());
    if (!machine) continue;
    const double distance = std::abs(std::log(static_cast<double>(machine->ranks_per_host) / ranks_per_host)) +
                            std::abs(std::log(static_cast<double>(machine->threads_per_rank) / threads));
    if (distance >= least) continue;
    least = distance;
    nearest = std::move(machine);
  }
  return nearest;
}

Keeping keep_measured_machine(const Machine& machine, bool replaces_any) {
  if (folder().empty()) return {"", "neither $XDG_CACHE_HOME nor $HOME is set"};
  const std::string file = fmt::format("{}/{}{}x{}.json", folder(), prefix(), machine.ranks_per_host, machine.threads_per_rank);
  const auto stays = [&](const std::string& better) {
    return Keeping{file, fmt::format("the figures in {} are {}; --force replaces them", file, better)};
  };
  if (const std::optional<Machine> kept = replaces_any ? std::nullopt : machine_of(file)) {
    if (!kept->is_unsteady && machine.is_unsteady) return stays("steady");
    if (kept->file_read.is_known() && !machine.file_read.is_known()) return stays("more: they have files, which this measurement left out");
    if (kept->is_unsteady == machine.is_unsteady && kept->measured_seconds > kLonger * machine.measured_seconds)
      return stays(fmt::format("of a longer measurement, {:.4g} s", kept->measured_seconds));
  }
  std::error_code ignored;
  for (const std::string& path : {file, file + ".partial"})  // a pipe would be waited for
    if (fs::exists(path, ignored) && !fs::is_regular_file(path, ignored)) return {file, path + " is there and no file"};
  try {
    fs::create_directories(folder(), ignored);
    write_machine(file, machine);
    return {file, ""};
  } catch (const RunError& error) {
    return {file, error.what()};
  }
}

}  // namespace zerostep
