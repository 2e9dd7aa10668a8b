#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "experiments/sweep/planned_run.h"
#include "experiments/sweep/sweep_file.h"

namespace zerostep {

// A share of the machine that one run at a time has for itself.
struct MachineShare {
  std::vector<int> cores;         // none: all that this process has
  std::vector<int> gpus;          // none: the processor, or whatever the run finds
  int64_t gpu_bytes = INT64_MAX;  // of a GPU's memory for each rank of its run; INT64_MAX: not known
  bool is_free = true;
  int64_t bytes = 0;              // of the machine's memory that its run has planned
  std::vector<DiskDemand> disks;  // and of its disks
  // "cpu", or what CUDA_VISIBLE_DEVICES is to be for its run, after "cuda:".
  std::string device() const;
};

// The machine as a sweep shares it out: its cores and GPUs in equal parts that do not overlap, its memory and disks by what plans say.
class MachineShares {
 public:
  // `cores`: the numbers of those that there are; `memory_bytes`: what is free before the first run starts; `gpu_bytes`: likewise of each
  // of resources.gpus, none: not known. As many shares as resources.jobs, at most `runs`; where that is less than there are GPUs for, those
  // with the most memory. Where no GPUs were named and there are fewer than a run has ranks, one share has all of them. InputError: the
  // ranks do not get a GPU each of those that are named, a GPU is named twice or is none that this process sees (visible_devices, unless
  // Slurm starts the runs), or there are more jobs than there are GPUs for their ranks.
  MachineShares(const SweepResources& resources, const std::vector<int>& cores, int64_t memory_bytes, size_t runs,
                const std::vector<int64_t>& gpu_bytes = {});

  size_t count() const { return shares_.size(); }
  int64_t memory_bytes() const { return memory_bytes_; }
  int64_t free_bytes() const;
  bool any_is_free() const;
  // The most that any share has of a GPU's memory for a rank.
  int64_t most_gpu_bytes() const;
  // Takes a free share for a run that needs so much of the machine's memory, each of whose ranks needs so much of a GPU's, and that needs
  // so much of disks, of which it knows what was free before the first run started: of the shares with enough the one with the least of a
  // GPU. Nothing where none is free, or too little of the rest.
  std::optional<size_t> take(int64_t bytes, int64_t gpu_bytes = 0, const std::vector<DiskDemand>& disks = {});
  void give_back(size_t share);
  const MachineShare& at(size_t share) const { return shares_.at(share); }

 private:
  bool has_room(const DiskDemand& demand) const;

  std::vector<MachineShare> shares_;
  int64_t memory_bytes_;
};

// What CUDA_VISIBLE_DEVICES is to be for these of the GPUs that this process sees: its own variable's entries, where it has one.
// InputError: that has fewer.
std::string visible_devices(const std::vector<int>& gpus);

}  // namespace zerostep
