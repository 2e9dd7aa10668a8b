#include "runtime/engine/tier_options.h"

namespace zerostep {

TierOptions tier_options(const Config& config, int rank) {
  TierOptions out;
  const auto files = [&](const OffloadConfig& offload) {
    ScratchOptions options;
    options.folders = offload.nvme_paths;
    options.rank = rank;
    options.verify = config.aio.verify;
    options.aio = config.aio.options;
    if (rank > 0) options.warn = [](const std::string&) {};  // one rank speaks for all
    return options;
  };
  out.parameters = files(config.zero.offload_param);
  out.state = files(config.zero.offload_optimizer);
  if (rank > 0) out.pinned.warn = [](const std::string&) {};
  const auto pins = [](const OffloadConfig& offload) { return offload.tier == Tier::Device || offload.pin_memory; };
  out.pinned.pin_memory = pins(config.zero.offload_param) && pins(config.zero.offload_optimizer);
  return out;
}

}  // namespace zerostep
