#include "base/cuda/cuda_library.h"
#include "base/nth.h"
#include "sharding/comm/gpu_communicator.h"
#include "sharding/comm/start_transport.h"
#include "sharding/cuda/nccl_transport.h"
#include "sharding/nccl_communicator.h"

namespace zerostep {

std::optional<Communicator> make_nccl_communicator(const Communicator& host, const Device& device, const NcclOptions& options,
                                                   std::string& why_not) {
  NcclGreeting mine;
  mine.why_not = options.why_not;
  why_not.clear();
  try {
    if (mine.why_not.empty()) reinterpret_cast<GreetForNccl*>(function_of_cuda_library(kGreetForNccl))(*device.impl(), host.rank(), mine);
  } catch (const RunError& error) {
    mine.why_not = error.what();
  }
  Communicator group = host;
  const std::vector<std::string> gpus = group.all_gather_text(mine.gpu, "GPUs of ranks"),
                                 reasons = group.all_gather_text(mine.why_not, "start of NCCL"),
                                 ids = group.all_gather_text(mine.id, "start of NCCL");
  for (int rank = 0; rank < group.size(); ++rank)
    for (int other = 0; other < rank; ++other)
      if (nth(gpus, rank) == nth(gpus, other) && !nth(gpus, rank).empty() && why_not.empty())
        why_not = fmt::format("ranks {} and {} share a GPU", other, rank);
  for (int rank = 0; rank < group.size() && why_not.empty(); ++rank) why_not = nth(reasons, rank);
  if (!why_not.empty()) return std::nullopt;
  const auto call = std::make_shared<Fingerprint>(CollectiveKind::Barrier, Fingerprint::kBytes, 0, ReduceOp::Sum, "start of NCCL");
  auto transport = start_transport(group, device, kStartNccl, ids.front(), options.timeout_seconds, call);
  const auto make = [device, options](const Communicator& part) {
    std::string why_not;
    const std::optional<Communicator> made = make_nccl_communicator(part, device, options, why_not);
    if (!made) fail_run("a group that is split from one of NCCL's cannot have it: {}", why_not);
    return *made;
  };
  return make_gpu_communicator(host, device,
                               {"nccl", std::move(transport), call, options.timeout_seconds, !options.is_deterministic, make});
}

}  // namespace zerostep
