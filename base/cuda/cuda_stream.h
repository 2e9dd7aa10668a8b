#pragma once
#include <exception>
#include <memory>
#include <string>

#include "base/cuda/cuda_context.h"
#include "base/stream.h"

namespace zerostep {

// A stream of CUDA's beside the default stream, which it does not wait for. Host tasks are host functions, of which CUDA runs one at a
// time: they call nothing of CUDA and wait for nothing. A wait for an event of the host (of a worker's stream) blocks neither the caller
// nor a host function: a thread beside the stream waits for it and writes a word for which the device waits (cuStreamWaitValue32). RunError
// when there are no more streams.
Stream make_cuda_stream(std::shared_ptr<CudaContext> context, std::string name);

// Work before an event of a stream of CUDA's has failed: whoever waits for the event, and what follows on its device, learns why.
void fail_work_before(const Event& event, std::exception_ptr failure);

}  // namespace zerostep
