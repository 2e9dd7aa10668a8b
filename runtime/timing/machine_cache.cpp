#include <unistd.h>

#include <algorithm>
#include <array>
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

// Nothing where the file is missing, damaged or of another version.
std::optional<Machine> machine_of(const std::string& file) {
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

// Whether one measurement has a link that the other left out: files where the disk had no room, other hosts where there was one.
bool has_more_links(const Machine& a, const Machine& b) {
  constexpr std::array kLinks{&Machine::file_read,      &Machine::file_write,          &Machine::gather_in_host,
                              &Machine::reduce_in_host, &Machine::gather_across_hosts, &Machine::reduce_across_hosts};
  return std::any_of(kLinks.begin(), kLinks.end(), [&](auto link) { return (a.*link).is_known() && !(b.*link).is_known(); });
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
  if (folder().empty()) return {};
  const std::string file = fmt::format("{}/{}{}x{}.json", folder(), prefix(), machine.ranks_per_host, machine.threads_per_rank);
  if (const std::optional<Machine> kept = replaces_any ? std::nullopt : machine_of(file)) {
    if (!kept->is_unsteady && machine.is_unsteady) return {file, "steady"};
    if (has_more_links(*kept, machine)) return {file, "more: they have files or hosts that this measurement left out"};
    if (kept->is_unsteady == machine.is_unsteady && kept->measured_seconds > kLonger * machine.measured_seconds)
      return {file, fmt::format("of a longer measurement, {:.4g} s", kept->measured_seconds)};
  }
  try {
    std::error_code ignored;
    fs::create_directories(folder(), ignored);
    write_machine(file, machine);
    return {file, ""};
  } catch (const RunError&) {
    return {};
  }
}

}  // namespace zerostep
