#pragma once
#include "base/device.h"
#include "sharding/communicator.h"

namespace zerostep {

// The operations of ranks that are threads of one process with GPUs that they may share: each reads the others' memory of the device, in
// the order of streams and events, and a kernel sums, with the bits of every other backend. Putting an operation on a stream waits until
// the other ranks have put it as well, for `timeout_seconds` at most, within which an operation that has begun must end, too. Memory is
// allocated, pinned and freed only while no rank is in an operation: CUDA may then wait for the work of all of them. Otherwise as a group
// of NCCL's. Collective. The device must outlive it. RunError where libzerostep_cuda.so lacks, ProtocolError where a rank is in another
// process.
Communicator make_thread_communicator(const Communicator& host, const Device& device, double timeout_seconds);

}  // namespace zerostep
