#include "runtime/engine/tier_options.h"

#include <fmt/format.h>

#include "offload/device_locker.h"

namespace zerostep {

TierOptions tier_options(const Config& config, int rank, const Device& device) {
  TierOptions out;
  AioOptions aio = config.aio.options;
  if (!aio.make_queue) aio.make_queue = io_queues();
  const auto files = [&](const char* block, const OffloadConfig& offload) {
    ScratchOptions options;
    options.key = fmt::format("zero_optimization.{}.nvme_path", block);
    options.folders = offload.nvme_paths;
    options.rank = rank;
    options.verify = config.aio.verify;
    options.aio = aio;
    if (rank > 0) options.warn = [](const std::string&) {};  // one rank speaks for all of what all find
    return options;
  };
  out.parameters = files("offload_param", config.zero.offload_param);
  out.state = files("offload_optimizer", config.zero.offload_optimizer);
  if (rank > 0) out.pinned.warn = [](const std::string&) {};
  out.pinned.locker = page_locker(device);
  const auto pins = [](const OffloadConfig& offload) { return offload.tier == Tier::Device || offload.pin_memory; };
  out.pinned.pin_memory = pins(config.zero.offload_param) && pins(config.zero.offload_optimizer);
  return out;
}

}  // namespace zerostep
