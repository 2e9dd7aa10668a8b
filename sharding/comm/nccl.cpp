#include <algorithm>
#include <memory>

#include "base/cuda/cuda_library.h"
#include "base/error.h"
#include "sharding/comm/gpu_communicator.h"
#include "sharding/comm/start_transport.h"
#include "sharding/cuda/nccl_transport.h"
#include "sharding/nccl_communicator.h"

namespace zerostep {
namespace {

// Two ranks whose GPU is the same ("": there are none).
std::string shared_gpu(const std::vector<std::string>& gpus) {
  for (size_t rank = 0; rank < gpus.size(); ++rank)
    for (size_t other = 0; other < rank; ++other)
      if (gpus[rank] == gpus[other] && !gpus[rank].empty()) return fmt::format("ranks {} and {} share a GPU", other, rank);
  return "";
}

std::string first_said(const std::vector<std::string>& texts) {
  const auto said = std::find_if(texts.begin(), texts.end(), [](const std::string& text) { return !text.empty(); });
  return said == texts.end() ? "" : *said;
}

}  // namespace

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
                                 demands = group.all_gather_text(options.demanded_by, "start of NCCL"),
                                 ids = group.all_gather_text(mine.id, "start of NCCL");
  const std::string shared = shared_gpu(gpus), reason = first_said(reasons), demand = first_said(demands);
  if (!demand.empty() && !reason.empty()) fail_run("{}, and NCCL cannot be had: {}", demand, reason);
  why_not = demand.empty() && !shared.empty() ? shared : reason;
  if (!why_not.empty()) return std::nullopt;
  const auto call = std::make_shared<Fingerprint>(CollectiveKind::Barrier, Fingerprint::kBytes, 0, ReduceOp::Sum, "start of NCCL");
  const std::string advice =
      shared.empty() ? ""
                     : fmt::format("; {}, and {}: NCCL takes ranks that share one only where their NCCL_HOSTID differs", shared, demand);
  auto transport = start_transport(group, device, kStartNccl, ids.front(), options.timeout_seconds, call, advice);
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
