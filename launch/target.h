#pragma once
#include <optional>

#include "launch/commands/commands.h"
#include "launch/machine.h"
#include "runtime/timing/machine.h"

namespace zerostep {

// The machine that `zerostep plan` plans for, and on how many of its ranks.
struct Target {
  std::optional<Machine> machine;                 // none: nothing is known of its speed
  std::string why_untimed;                        // says why not, and what helps
  bool is_here = true;                            // false: --machine describes it
  int world = 1, ranks_of_host = 1, threads = 1;  // threads: of a rank
  // Of each GPU here, where this process leaves them to others and opens none, so that nothing can be measured there.
  std::optional<MemoryLimit> gpu_memory;
  // Of a described machine whether it computes on GPUs; nothing: as it is here.
  std::optional<bool> has_gpu() const { return is_here ? std::optional<bool>() : !machine->host_is_device; }
};
// Gives LibTorch as many threads as a rank would have here. What is known of this machine's speed settle_target() tells.
Target target_of(const PlanArguments& arguments);
// Of this machine what was measured of the device that the settled run.device says.
void settle_target(Target& target, const Config& config);
// Of an option that needs the time of a step where that is not known: InputError.
[[noreturn]] void fail_without_times(const char* option, const std::string& why);
// What a rank of it may use.
MemoryLimit memory_limit(const Config& config, const Target& target, const PlanArguments& arguments);

}  // namespace zerostep
