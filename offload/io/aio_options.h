#pragma once
#include <cstdint>
#include <functional>
#include <memory>

namespace zerostep {

class IoQueue;
struct AioOptions;
// Makes queues. The threads of those that come from one maker, or from copies of it, are the same.
using IoQueueMaker = std::function<std::unique_ptr<IoQueue>(const AioOptions&)>;

// How files are read and written: DeepSpeed's `aio` block, whose defaults these are.
struct AioOptions {
  int64_t block_size = int64_t{1} << 20;  // bytes of one request, rounded up to kDirectAlignment; at most 1 GiB
  int queue_depth = 8;                    // requests in flight for each part of a transfer...
  int intra_op_parallelism = 1;           // ...and the number of parts that go on side by side
  bool single_submit = false;             // each request is handed to the kernel by a call of its own (io_uring)
  bool overlap_events = true;             // a completion makes room at once; otherwise all in flight are waited for before more start
  double stall_seconds = 300;             // a request that is not completed within this time is a failure (ours)
  IoQueueMaker make_queue = nullptr;      // nullptr: io_queues()

  int max_in_flight() const { return queue_depth * intra_op_parallelism; }
};

}  // namespace zerostep
