#include "experiments/sweep/too_large.h"

#include <fmt/format.h>

#include "base/format.h"

namespace zerostep {

int64_t machine_bytes(const SweepRequest& request, size_t run) {
  return request.planned[run].machine_bytes(request.file.resources.ranks, request.process_bytes);
}

std::string why_too_large(const SweepRequest& request, size_t run, int64_t most_gpu_bytes) {
  const PlannedRun& planned = request.planned[run];
  if (!planned.refusal.empty()) return planned.refusal;
  const int64_t bytes = machine_bytes(request, run);
  if (bytes > request.memory_bytes) {
    const ComparedBytes compared = compared_bytes(bytes, request.memory_bytes);
    return fmt::format(
        "needs {} of this machine's memory, its processes' own {} among them; {} are free: {} are missing. End other programs that hold "
        "memory, or lower what it needs: fewer ranks (resources.ranks), a smaller train_micro_batch_size_per_gpu, \"nvme\" for "
        "offload_param.device and offload_optimizer.device",
        compared.one, human_bytes(request.process_bytes * request.file.resources.ranks), compared.other,
        human_bytes(bytes - request.memory_bytes));
  }
  if (planned.gpu_bytes > most_gpu_bytes) {
    const ComparedBytes compared = compared_bytes(planned.gpu_bytes, most_gpu_bytes);
    return fmt::format(
        "each rank needs {} of a GPU's memory; {} are free: {} are missing. End other programs on the GPUs, name GPUs with more (--gpus, "
        "resources.gpus), or lower what a rank needs: a smaller train_micro_batch_size_per_gpu, \"cpu\" for offload_param.device and "
        "offload_optimizer.device",
        compared.one, compared.other, human_bytes(planned.gpu_bytes - most_gpu_bytes));
  }
  return lack_of_room(planned.disks, request.file.resources.ranks);
}

}  // namespace zerostep
