#include "experiments/sweep/machine_shares.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <set>
#include <sstream>

#include "base/error.h"
#include "base/format.h"

namespace zerostep {

std::string MachineShare::device() const { return gpus.empty() ? "cpu" : fmt::format("cuda:{}", fmt::join(gpus, ",")); }

MachineShares::MachineShares(const SweepResources& resources, const std::vector<int>& cores, int64_t memory_bytes, size_t runs)
    : memory_bytes_(memory_bytes) {
  const auto ranks = static_cast<size_t>(resources.ranks), gpus = resources.gpus.size();
  if (gpus > 0 && gpus < ranks)
    fail_input("a run has {} and there {} for them: name as many GPUs as a run has ranks (--gpus, resources.gpus), or fewer ranks",
               counted(resources.ranks, "rank"), gpus == 1 ? "is 1 GPU" : fmt::format("are {} GPUs", gpus));
  if (std::set<int>(resources.gpus.begin(), resources.gpus.end()).size() < gpus)
    fail_input("a GPU is named twice ({}): each run has its GPUs for itself (--gpus, resources.gpus)", fmt::join(resources.gpus, ","));
  if (!resources.uses_slurm) visible_devices(resources.gpus);
  const size_t room = gpus > 0 ? gpus / ranks : std::max<size_t>(1, cores.size() / ranks);
  size_t jobs = resources.jobs > 0 ? static_cast<size_t>(resources.jobs) : room;
  if (gpus > 0 && jobs > room)
    fail_input("{} with {} each need {} GPUs, and {} {} named: each run has its GPUs for itself", counted(resources.jobs, "job"),
               counted(resources.ranks, "rank"), jobs * ranks, gpus, gpus == 1 ? "is" : "are");
  jobs = std::max<size_t>(1, std::min(jobs, runs));
  for (size_t i = 0; i < jobs; ++i) {
    MachineShare share;
    if (cores.size() >= jobs)
      share.cores.assign(cores.begin() + static_cast<int64_t>(i * cores.size() / jobs),
                         cores.begin() + static_cast<int64_t>((i + 1) * cores.size() / jobs));
    if (gpus > 0)
      share.gpus.assign(resources.gpus.begin() + static_cast<int64_t>(i * ranks),
                        resources.gpus.begin() + static_cast<int64_t>((i + 1) * ranks));
    shares_.push_back(std::move(share));
  }
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

std::optional<size_t> MachineShares::take(int64_t bytes) {
  if (bytes > free_bytes()) return std::nullopt;
  const auto it = std::find_if(shares_.begin(), shares_.end(), [](const MachineShare& share) { return share.is_free; });
  if (it == shares_.end()) return std::nullopt;
  it->is_free = false;
  it->bytes = bytes;
  return static_cast<size_t>(it - shares_.begin());
}

void MachineShares::give_back(size_t share) { shares_.at(share).is_free = true; }

}  // namespace zerostep
