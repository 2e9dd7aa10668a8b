#include "launch/target.h"

#include <algorithm>

#include "base/error.h"
#include "base/program_name.h"
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
  out.threads = set_threads(std::max(1, num_cores() / out.ranks_of_host));  // as each of them would
  if (out.machine) out.machine->ranks_per_host = ranks_of_host;
  return out;
}

void settle_target(Target& target, const Config& config) {
  if (!target.is_here) return;
  std::string gpu;
  if (config.run.device == "cuda") {
    const std::string model = Device::gpu_model(0);
    if (model.empty()) {
      target.why_untimed = as_called(
          "run.device is \"cuda\", and no GPU answers here: --machine FILE describes a machine with GPUs, and `zerostep bench machine "
          "--device cuda` measures one there");
      return;
    }
    gpu = gpu_of_figures(model, target.ranks_of_host);
  }
  MachineHere here = machine_here(target.world, target.ranks_of_host, target.threads, gpu);
  target.machine = std::move(here.machine);
  target.why_untimed = std::move(here.why_not);
}

void fail_without_times(const char* option, const std::string& why) { fail_input("{}: the time of a step is not known: {}", option, why); }

MemoryLimit memory_limit(const Config& config, const Target& target, const PlanArguments& arguments) {
  if (!target.is_here) return memory_limit(config, *target.machine, arguments.machine);
  if (config.run.device == "cuda" && target.gpu_memory) {
    const int64_t given = config.run.device_memory;
    return given > 0 && given <= target.gpu_memory->device_bytes ? MemoryLimit{given, "run.device_memory"} : *target.gpu_memory;
  }
  if (config.run.device == "cuda" && Device::num_gpus() == 0 && config.run.device_memory == 0)
    return {INT64_MAX, "no GPU answers here, and run.device_memory does not say how much one has"};
  return memory_limit(config, config.run.device_memory > 0 ? Device::cpu() : open_device(config, 0), target.ranks_of_host);
}

}  // namespace zerostep
