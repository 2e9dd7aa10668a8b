#include "launch/capacity.h"

#include <algorithm>

#include "launch/machine.h"
#include "offload/scratch_folder.h"

namespace zerostep {
namespace {

// Room for scratch files, for each rank of the host.
int64_t room_in_files(const ZeroConfig& zero, int ranks) {
  std::vector<std::string> folders = zero.offload_optimizer.nvme_paths;
  for (const std::string& folder : zero.offload_param.nvme_paths)
    if (std::find(folders.begin(), folders.end(), folder) == folders.end()) folders.push_back(folder);
  const int64_t room = free_room(folders);
  return room == INT64_MAX ? room : room / ranks;
}

}  // namespace

TierBytes capacity(const Config& config, const Target& target, const MemoryLimit& limit) {
  if (!target.is_here) return {limit.device_bytes, limit.host_bytes, limit.file_bytes};
  Config without_limit = config;
  without_limit.run.device_memory = 0;
  const int64_t files = room_in_files(config.zero, target.ranks_of_host),
                free = memory_limit(without_limit, Device::cpu(), target.ranks_of_host).device_bytes;
  if (config.run.device == "cuda") return {limit.device_bytes, free, files};
  const int64_t device = std::min(limit.device_bytes, free);
  return {device, limit.includes_host ? free : free - device, files};
}

}  // namespace zerostep
