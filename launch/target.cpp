#include "launch/target.h"

#include <algorithm>

#include "base/error.h"
#include "launch/device.h"

namespace zerostep {

Target target_of(const PlanArguments& arguments) {
  Target out;
  out.is_here = arguments.machine.empty();
  if (!out.is_here) out.machine = read_machine(arguments.machine);
  const int ranks_of_host = arguments.ranks_per_node > 0 ? arguments.ranks_per_node
                            : out.machine                ? out.machine->ranks_per_host
                                                         : num_cores();
  out.world = arguments.world > 0 ? arguments.world : out.machine ? ranks_of_host : 1;
  out.ranks_of_host = std::min(ranks_of_host, out.world);
  const int threads = set_threads(std::max(1, num_cores() / out.ranks_of_host));  // as each of them would
  if (out.is_here) {
    MachineHere here = machine_here(out.world, out.ranks_of_host, threads);
    out.machine = std::move(here.machine);
    out.why_untimed = std::move(here.why_not);
  }
  if (out.machine) out.machine->ranks_per_host = ranks_of_host;
  return out;
}

void settle_target(Target& target, const Config& config) {
  if (!target.is_here || config.run.device != "cuda") return;
  target.machine.reset();
  target.why_untimed = "run.device is \"cuda\", and what is measured of a machine is its processor: --machine FILE describes one with GPUs";
}

void fail_without_times(const char* option, const std::string& why) { fail_input("{}: the time of a step is not known: {}", option, why); }

MemoryLimit memory_limit(const Config& config, const Target& target, const PlanArguments& arguments) {
  if (!target.is_here) return memory_limit(config, *target.machine, arguments.machine);
  if (config.run.device == "cuda" && Device::num_gpus() == 0 && config.run.device_memory == 0)
    return {INT64_MAX, "no GPU answers here, and run.device_memory does not say how much one has"};
  return memory_limit(config, config.run.device_memory > 0 ? Device::cpu() : open_device(config, 0), target.ranks_of_host);
}

}  // namespace zerostep
