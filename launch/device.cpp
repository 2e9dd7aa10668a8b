#include "launch/device.h"

#include <algorithm>

#include "base/error.h"
#include "base/format.h"
#include "base/program_name.h"
#include "sharding/mpi_session.h"
#include "sharding/nccl_communicator.h"
#include "sharding/staged_communicator.h"

namespace zerostep {

void settle_device(Config& config, std::optional<bool> has_gpu) {
  if (config.run.device != "auto") return;
  config.run.device = has_gpu.value_or(false) || (!has_gpu && Device::num_gpus() > 0) ? "cuda" : "cpu";
}

Device open_device(const Config& config, int local_rank) {
  if (config.run.device != "cuda") return Device::cpu();
  const int gpus = Device::num_gpus();
  try {
    return Device::cuda(local_rank % std::max(1, gpus));
  } catch (const RunError& error) {
    const char* const build =
        "A build for GPUs needs CUDA 13 (`launch/setup.sh --cuda` brings it, then build again; -DZEROSTEP_CUDA=ON says what lacks); ";
    fail_input("{}: run.device is \"cuda\": {}. {}\"cpu\", or --device cpu, computes on the processor", config.source("run.device"),
               error.what(), Device::has_cuda_library() ? "" : build);
  }
}

Device device_of_plan(const Config& config) {
  return config.run.device == "cuda" && Device::num_gpus() > 0 ? open_device(config, 0) : Device::cpu();
}

DeviceGroup group_on(const Device& device, const Communicator& world, const Config& config) {
  if (device.is_host()) return {world, ""};
  if (world.size() == 1) return {make_staged_communicator(world, device), ""};
  std::string why_not;
  const CommunicationWish wish = communication_wish();
  const NcclOptions options{config.run.collective_timeout_seconds, config.run.deterministic,
                            wish == CommunicationWish::Staged ? "ZEROSTEP_COMM is 'staged'" : "",
                            wish == CommunicationWish::Nccl ? "ZEROSTEP_COMM is 'nccl'" : ""};
  if (const auto made = make_nccl_communicator(world, device, options, why_not)) return {*made, ""};
  return {make_staged_communicator(world, device),
          fmt::format("collectives of {} pass through pinned memory of the host, slower than between GPUs: {}",
                      counted(world.size(), "rank"), why_not)};
}

}  // namespace zerostep
