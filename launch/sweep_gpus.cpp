#include "launch/sweep_gpus.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "base/device.h"
#include "base/error.h"
#include "base/format.h"
#include "launch/device.h"

namespace zerostep {
namespace {

bool is_on_gpu(const SweepPoint& point) {
  Config config = point.loaded.config;
  settle_device(config);
  return config.run.device == "cuda";
}

}  // namespace

void settle_gpus(SweepResources& resources, const std::vector<SweepPoint>& points) {
  if (resources.uses_slurm) return;
  if (resources.gpus.empty()) {
    if (std::none_of(points.begin(), points.end(), is_on_gpu)) return;
    resources.gpus.resize(static_cast<size_t>(Device::num_gpus()));
    std::iota(resources.gpus.begin(), resources.gpus.end(), 0);
    resources.has_all_gpus = true;
    return;
  }
  const int there = Device::num_gpus();
  for (int gpu : resources.gpus)
    if (gpu >= there)
      fail_input("GPU {} is asked for (--gpus, resources.gpus), and {} here; they count from 0", gpu,
                 there == 0   ? "no GPU answers"
                 : there == 1 ? "1 GPU is"
                              : fmt::format("{} GPUs are", there));
}

std::vector<int64_t> free_gpu_bytes(const SweepResources& resources) {
  std::vector<int64_t> out;
  if (!resources.uses_slurm)
    for (int gpu : resources.gpus) out.push_back(Device::cuda(gpu).memory_info().free_bytes);
  return out;
}

MemoryLimit gpu_limit(const MachineShares& shares, int ranks) {
  MemoryLimit out{shares.most_gpu_bytes(), ""};
  for (size_t i = 0; i < shares.count() && out.source.empty(); ++i) {
    const MachineShare& share = shares.at(i);
    if (share.gpu_bytes != out.device_bytes) continue;
    const size_t gpus = share.gpus.size();
    out.source = fmt::format("free memory of {}{}{}", gpus > 1 ? "each of " : "", share.device(),
                             static_cast<size_t>(ranks) > gpus ? fmt::format(" for each of {} ranks", ranks) : "");
  }
  return out;
}

}  // namespace zerostep
