#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <limits>

#include "base/content_hash.h"
#include "base/error.h"
#include "base/user_cache_folder.h"
#include "runtime/memory/machine_description.h"
#include "runtime/timing/machine.h"

// One file for each machine and device, number of ranks and number of threads: "HASH_2x1.json".

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

// Nothing where the file is missing, damaged or of another version, or is none: a pipe would be waited for. `why_unreadable` as
// measured_machine().
std::optional<Machine> machine_of(const std::string& file, std::string* why_unreadable = nullptr) {
  std::error_code ignored;
  if (!fs::is_regular_file(file, ignored)) return std::nullopt;
  try {
    return read_machine(file);
  } catch (const InputError& error) {
    if (why_unreadable != nullptr && why_unreadable->empty()) *why_unreadable = error.what();
    return std::nullopt;
  }
}

// Of the files of this machine and a device of it. Fewer cores of the same kind do other work together.
std::string prefix(const std::string& device) {
  const auto cores = static_cast<uint64_t>(sysconf(_SC_NPROCESSORS_ONLN));
  ContentHash hash;
  hash.add(machine_description()).add(cores);
  if (!device.empty()) hash.add(device);
  return hash.hex().substr(0, 16) + "_";
}

// Makes each figure of a machine's later measurement the earlier one's where that is faster, and says how many are. Those of files, which
// may be on another disk, and of links between hosts stay the later one's.
int take_faster(const Machine& earlier, Machine& later) {
  int num_earlier = 0;
  const auto take = [&](auto& figure, const auto& other, bool is_faster) {
    if (!is_faster) return;
    figure = other;
    ++num_earlier;
  };
  for (double Machine::*const rate :
       {&Machine::memory_bytes_per_second, &Machine::noise_elements_per_second, &Machine::noise_16bit_elements_per_second,
        &Machine::update_bytes_per_second, &Machine::host_update_bytes_per_second})
    take(later.*rate, earlier.*rate, earlier.*rate > later.*rate);
  for (double Machine::*const seconds : {&Machine::operation_seconds, &Machine::agreement_seconds})
    take(later.*seconds, earlier.*seconds, earlier.*seconds < later.*seconds);
  constexpr double kTransferBytes = 16 << 20;  // of a large transfer, as it is measured
  for (Link Machine::*const link :
       {&Machine::host_to_device, &Machine::device_to_host, &Machine::gather_in_host, &Machine::reduce_in_host}) {
    const Link &before = earlier.*link, &now = later.*link;
    if (before.is_known() && now.is_known()) take(later.*link, before, before.seconds(kTransferBytes) < now.seconds(kTransferBytes));
  }
  for (const GemmRate& before : earlier.gemm) {
    const auto now = std::find_if(later.gemm.begin(), later.gemm.end(), [&](const GemmRate& rate) {
      return rate.type == before.type && rate.rows == before.rows && rate.width == before.width;
    });
    // A slow measurement leaves out products that take long.
    GemmRate& rate = now != later.gemm.end() ? *now : later.gemm.emplace_back(GemmRate{before.type, before.rows, before.width, 0});
    take(rate, before, before.flops_per_second > rate.flops_per_second);
  }
  for (const ElementwiseRate& before : earlier.elementwise)
    for (ElementwiseRate& now : later.elementwise) {
      if (now.type != before.type) continue;
      take(now.bytes_per_second, before.bytes_per_second, before.bytes_per_second > now.bytes_per_second);
      constexpr double kFlops = 4 * 256 * 257 * 64 / 2;  // of a head of 256 tokens
      for (AttentionRate ElementwiseRate::*const rate : {&ElementwiseRate::attention, &ElementwiseRate::attention_backward})
        if ((before.*rate).flops_per_second > 0 && (now.*rate).flops_per_second > 0)
          take(now.*rate, before.*rate, (before.*rate).seconds(kFlops, 1) < (now.*rate).seconds(kFlops, 1));
    }
  return num_earlier;
}

}  // namespace

std::optional<Machine> measured_machine(int ranks_per_host, int threads, const std::string& device, std::string* why_unreadable) {
  const std::string begin = prefix(device);
  std::optional<Machine> nearest;
  double least = std::numeric_limits<double>::infinity();
  std::error_code none;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder(), none)) {
    if (!entry.path().filename().string().starts_with(begin) || entry.path().extension() != ".json") continue;
    std::optional<Machine> machine = machine_of(entry.path().string(), why_unreadable);
    if (!machine) continue;
    const double distance = std::abs(std::log(static_cast<double>(machine->ranks_per_host) / ranks_per_host)) +
                            std::abs(std::log(static_cast<double>(machine->threads_per_rank) / threads));
    if (distance >= least) continue;
    least = distance;
    nearest = std::move(machine);
  }
  return nearest;
}

Keeping keep_measured_machine(Machine machine, bool replaces_any, const std::string& device) {
  int num_earlier = 0;
  if (folder().empty()) return {"", "neither $XDG_CACHE_HOME nor $HOME is set"};
  const std::string file = fmt::format("{}/{}{}x{}.json", folder(), prefix(device), machine.ranks_per_host, machine.threads_per_rank);
  const auto stays = [&](const std::string& better) {
    return Keeping{file, fmt::format("the figures in {} are {}; --force replaces them", file, better)};
  };
  if (const std::optional<Machine> kept = replaces_any ? std::nullopt : machine_of(file)) {
    if (!kept->is_unsteady && machine.is_unsteady) return stays("steady");
    if (kept->file_read.is_known() && !machine.file_read.is_known()) return stays("more: they have files, which this measurement left out");
    const bool is_as_steady = kept->is_unsteady == machine.is_unsteady;
    if (is_as_steady && kept->measured_seconds > kLonger * machine.measured_seconds)
      return stays(fmt::format("of a longer measurement, {:.4g} s", kept->measured_seconds));
    if (is_as_steady && machine.measured_seconds <= kLonger * kept->measured_seconds) num_earlier = take_faster(*kept, machine);
  }
  std::error_code ignored;
  if (fs::exists(file, ignored) && !fs::is_regular_file(file, ignored)) return {file, file + " is there and no file"};
  const bool is_unreadable = fs::exists(file, ignored) && !machine_of(file);
  try {
    fs::create_directories(folder(), ignored);
    write_machine(file, machine);
    return {file, "", num_earlier, is_unreadable};
  } catch (const RunError& error) {
    return {file, error.what()};
  }
}

}  // namespace zerostep
