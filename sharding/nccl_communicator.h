#pragma once
#include <optional>
#include <string>

#include "base/device.h"
#include "sharding/communicator.h"

namespace zerostep {

struct NcclOptions {
  double timeout_seconds = 600;  // run.collective_timeout_seconds
  // run.deterministic: sums are made here, in rank order, with the bits of every other backend. False: fp32 sums into targets that are not
  // added to are NCCL's, whose order is its own.
  bool is_deterministic = true;
  std::string why_not = {};  // why a rank does not want it; then no rank has it
  // What asks for it even where ranks share a GPU ("": nothing), on one rank at least; then nothing else is put in its place.
  std::string demanded_by = {};
};

// The operations of a group whose ranks have a GPU each, from GPU to GPU (sharding/comm/gpu_communicator.h): NCCL moves the values, and a
// kernel sums them. Sums need memory of the device (Communicator::lend_staging). Collective. Nothing, on every rank, where the ranks cannot
// have it, with the reason in `why_not`: libnccl.so.2 is not there, or two ranks share a GPU. Where it is demanded, RunError on every rank
// instead, and ranks that share a GPU are left to NCCL. RunError where NCCL does not start.
std::optional<Communicator> make_nccl_communicator(const Communicator& host, const Device& device, const NcclOptions& options,
                                                   std::string& why_not);

}  // namespace zerostep
