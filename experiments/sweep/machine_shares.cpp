#include "experiments/sweep/machine_shares.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <set>
#include <sstream>

#include "base/error.h"
#include "base/format.h"

namespace zerostep {

namespace {

// The GPUs in sets of as many as a run has ranks, the sets with the most memory first.
std::vector<MachineShare> shares_of_gpus(const SweepResources& resources, const std::vector<int64_t>& gpu_bytes) {
  std::vector<MachineShare> out;
  const size_t ranks = static_cast<size_t>(resources.ranks), gpus = resources.gpus.size(), size = std::min(ranks, gpus);
  for (size_t begin = 0; size > 0 && begin + size <= gpus; begin += size) {
    MachineShare& share = out.emplace_back();
    for (size_t i = begin; i < begin + size; ++i) {
      share.gpus.push_back(resources.gpus[i]);
      if (!gpu_bytes.empty())
        share.gpu_bytes = std::min(share.gpu_bytes, gpu_bytes.at(i) / static_cast<int64_t>((ranks + size - 1) / size));
    }
  }
  std::stable_sort(out.begin(), out.end(), [](const MachineShare& a, const MachineShare& b) { return a.gpu_bytes > b.gpu_bytes; });
  return out;
}

}  // namespace

std::string MachineShare::device() const { return gpus.empty() ? "cpu" : fmt::format("cuda:{}", fmt::join(gpus, ",")); }

MachineShares::MachineShares(const SweepResources& resources, const std::vector<int>& cores, int64_t memory_bytes, size_t runs,
                             const std::vector<int64_t>& gpu_bytes)
    : memory_bytes_(memory_bytes) {
  const auto ranks = static_cast<size_t>(resources.ranks), gpus = resources.gpus.size();
  if (!resources.has_all_gpus && gpus > 0 && gpus < ranks)
    fail_input("a run has {} and there {} for them: name as many GPUs as a run has ranks (--gpus, resources.gpus), or fewer ranks",
               counted(resources.ranks, "rank"), gpus == 1 ? "is 1 GPU" : fmt::format("are {} GPUs", gpus));
  if (std::set<int>(resources.gpus.begin(), resources.gpus.end()).size() < gpus)
    fail_input("a GPU is named twice ({}): each run has its GPUs for itself (--gpus, resources.gpus)", fmt::join(resources.gpus, ","));
  if (!resources.uses_slurm) visible_devices(resources.gpus);
  shares_ = shares_of_gpus(resources, gpu_bytes);
  const size_t room = gpus > 0 ? shares_.size() : std::max<size_t>(1, cores.size() / ranks);
  size_t jobs = resources.jobs > 0 ? static_cast<size_t>(resources.jobs) : room;
  if (gpus > 0 && jobs > room)
    fail_input(
        "{} with {} each need {} GPUs, and {} {} {}: each run has its GPUs for itself{}", counted(resources.jobs, "job"),
        counted(resources.ranks, "rank"), jobs * ranks, gpus, gpus == 1 ? "is" : "are", resources.has_all_gpus ? "there" : "named",
        resources.has_all_gpus ? fmt::format("; {} at once can be had (--jobs, resources.jobs)", counted(std::ssize(shares_), "job")) : "");
  jobs = std::max<size_t>(1, std::min(jobs, runs));
  shares_.resize(jobs);
  if (cores.size() < jobs) return;
  for (size_t i = 0; i < jobs; ++i)
    shares_[i].cores.assign(cores.begin() + static_cast<int64_t>(i * cores.size() / jobs),
                            cores.begin() + static_cast<int64_t>((i + 1) * cores.size() / jobs));
}

int64_t MachineShares::free_bytes() const {
  int64_t out = memory_bytes_;
  for (const MachineShare& share : shares_)
    if (!share.is_free) out -= share.bytes;
  return out;
}

bool MachineShares::any_is_free() const {
  return std::any_of(shares_.begin(), shares_.end(), [](const MachineShare& share) { return share.is_free; });
}

std::string visible_devices(const std::vector<int>& gpus) {
  const char* variable = std::getenv("CUDA_VISIBLE_DEVICES");
  std::vector<std::string> seen, out;
  if (variable != nullptr) {
    std::istringstream entries(variable);
    for (std::string entry; std::getline(entries, entry, ',');) seen.push_back(entry);
  }
  for (int gpu : gpus) {
    if (variable != nullptr && static_cast<size_t>(gpu) >= seen.size())
      fail_input("GPU {} is asked for (--gpus, resources.gpus), and CUDA_VISIBLE_DEVICES={} shows {} to this process; they count from 0",
                 gpu, variable, counted(std::ssize(seen), "GPU"));
    out.push_back(variable != nullptr ? seen[static_cast<size_t>(gpu)] : std::to_string(gpu));
  }
  return fmt::format("{}", fmt::join(out, ","));
}

int64_t MachineShares::most_gpu_bytes() const {
  int64_t out = 0;
  for (const MachineShare& share : shares_) out = std::max(out, share.gpu_bytes);
  return out;
}

bool MachineShares::has_room(const DiskDemand& demand) const {
  int64_t taken = 0;
  for (const MachineShare& share : shares_)
    for (const DiskDemand& disk : share.disks)
      if (!share.is_free && disk.disk == demand.disk) taken += disk.num_bytes;
  return demand.num_bytes <= demand.free_bytes - taken;
}

std::optional<size_t> MachineShares::take(int64_t bytes, int64_t gpu_bytes, const std::vector<DiskDemand>& disks) {
  if (bytes > free_bytes() || !std::all_of(disks.begin(), disks.end(), [&](const DiskDemand& demand) { return has_room(demand); }))
    return std::nullopt;
  MachineShare* best = nullptr;
  for (MachineShare& share : shares_)
    if (share.is_free && share.gpu_bytes >= gpu_bytes && (best == nullptr || share.gpu_bytes < best->gpu_bytes)) best = &share;
  if (best == nullptr) return std::nullopt;
  best->is_free = false;
  best->bytes = bytes;
  best->disks = disks;
  return static_cast<size_t>(best - shares_.data());
}

void MachineShares::give_back(size_t share) { shares_.at(share).is_free = true; }

}  // namespace zerostep
