#include "launch/machine.h"

#include <ATen/Parallel.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "base/device.h"
#include "base/error.h"
#include "base/format.h"
#include "base/program_name.h"
#include "sharding/comm/core_share.h"

namespace zerostep {
int num_cores() { return share_of_cores({allowed_cores()}, 0); }

int set_threads(int cores) {
  const char* given = std::getenv("OMP_NUM_THREADS");
  if (given == nullptr || *given == '\0') at::set_num_threads(cores);
  return at::get_num_threads();
}

int ranks_of_gpu(int ranks_of_host) {
  const int gpus = std::max(1, Device::num_gpus());
  return (ranks_of_host + gpus - 1) / gpus;
}

std::string gpu_of_figures(const std::string& model, int ranks_of_host) {
  const int ranks = ranks_of_gpu(ranks_of_host);
  return ranks > 1 ? fmt::format("{}, {} ranks on each", model, ranks) : model;
}

MachineHere machine_here(int world, int ranks_of_host, int threads, const std::string& gpu) {
  const bool on_gpu = !gpu.empty();
  // Which device is measured unasked depends on whether a GPU answers.
  const std::string bench = fmt::format("zerostep bench machine{}", on_gpu                   ? " --device cuda"
                                                                    : Device::num_gpus() > 0 ? " --device cpu"
                                                                                             : "");
  std::string why_unreadable;
  std::optional<Machine> found = measured_machine(ranks_of_host, threads, gpu, &why_unreadable);
  const int64_t cores = found ? std::lround(found->ranks_per_host * found->cores_per_rank) : 0;
  const bool has_hosts = world > ranks_of_host;
  MachineHere out;
  out.is_measured = found.has_value() || !why_unreadable.empty();
  std::string help;  // "": the figures serve
  if (!found && !has_hosts)
    help = fmt::format("`{}{}` measures what a prediction needs{}, --machine FILE describes another machine",
                       on_gpu && ranks_of_host > 1 ? fmt::format("mpirun -np {} ", ranks_of_host) : "", bench, on_gpu ? " of " + gpu : "");
  else if (has_hosts)
    help = fmt::format(
        "`zerostep plan --machine FILE` plans for such hosts; `{} --out FILE` under mpirun measures them; "
        "--ranks-per-node says how many ranks share a host",
        bench);
  else if (!on_gpu && cores < ranks_of_host)
    help = "`zerostep plan --machine FILE` plans for a machine that has a core for each";
  else if (ranks_of_host > 1 && !found->gather_in_host.is_known())
    help = on_gpu ? fmt::format("`mpirun -np {} {}` measures so many", ranks_of_host, bench)
                  : fmt::format("`{} --ranks {}` measures so many", bench, ranks_of_host);
  if (help.empty()) {
    found->ranks_per_host = ranks_of_host;
    out.machine = std::move(found);
    return out;
  }
  std::string measured, asked;
  if (found)
    measured = fmt::format("this machine was measured with {} on {}, and ", counted(found->ranks_per_host, "rank"),
                           on_gpu ? gpu : "its " + counted(cores, "core"));
  if (found || has_hosts) {
    const int hosts = (world + ranks_of_host - 1) / ranks_of_host;
    asked = fmt::format("{}{} {} asked for: ", counted(world, "rank"), has_hosts ? " on " + counted(hosts, "host") : "",
                        world == 1 ? "is" : "are");
  }
  if (!found && !why_unreadable.empty()) measured = fmt::format("what was measured cannot be read ({}): ", why_unreadable);
  out.why_not = as_called(measured + asked + help);
  return out;
}

MemoryLimit memory_limit(const Config& config, const Device& device, int ranks_of_host) {
  const MemoryLimit given{config.run.device_memory, "run.device_memory"};
  if (!device.is_host()) {
    const int ranks = ranks_of_gpu(ranks_of_host);
    const int64_t free = device.memory_info().free_bytes / ranks;
    if (given.device_bytes > 0 && given.device_bytes <= free) return given;
    return {free,
            ranks > 1 ? fmt::format("free memory of {} for each of {} ranks", device.name(), ranks) : "free memory of " + device.name()};
  }
  if (given.device_bytes > 0) return given;
  const int64_t free = Device::cpu().memory_info().free_bytes;
  return {
      free / std::max(1, ranks_of_host),
      ranks_of_host > 1 ? fmt::format("free memory of this machine for each of {} ranks", ranks_of_host) : "free memory of this machine",
      true};
}

MemoryLimit memory_limit(const Config& config, const Machine& machine, const std::string& file) {
  const auto or_any = [](int64_t bytes) { return bytes > 0 ? bytes : INT64_MAX; };
  MemoryLimit out{or_any(machine.host_is_device ? machine.host_bytes : machine.device_bytes), "of a rank in " + file,
                  machine.host_is_device, or_any(machine.host_bytes), or_any(machine.file_bytes)};
  if (out.device_bytes == INT64_MAX) out.source = file + " does not say how much there is";
  if (config.run.device_memory > 0) {
    out.device_bytes = config.run.device_memory;
    out.source = "run.device_memory";
    out.includes_host = false;
  }
  return out;
}

void require_host_memory(const Config& config, const PlanCost& cost, const MemoryLimit& limit, const Device& device, int ranks_of_host) {
  const int64_t free = Device::cpu().memory_info().free_bytes / std::max(1, ranks_of_host);
  const int64_t device_bytes = device.is_host() ? cost.device_peak_bytes : 0, bytes = device_bytes + cost.host_peak_bytes;
  if (limit.includes_host || bytes <= free) return;
  const ComparedBytes compared = compared_bytes(bytes, free);
  fail_input(
      "{}: a rank needs {} of this machine's memory{}, and {} are free for each of {}: {} are missing. What helps: "
      "\"nvme\" for zero_optimization.offload_param.device and offload_optimizer.device, a lower buffer_count, run.checkpoint_interval 0 "
      "(checkpoints are staged in memory), fewer ranks on this host",
      config.file, compared.one,
      device.is_host()
          ? fmt::format(", {} for the device and {} for the host", human_bytes(device_bytes), human_bytes(cost.host_peak_bytes))
          : "",
      compared.other, ranks_of_host, human_bytes(bytes - free));
}

}  // namespace zerostep
