#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "offload/io/aio_options.h"

namespace zerostep {

// One call of pread or pwrite. The memory stays until the request's completion is taken.
struct IoRequest {
  int file = -1;  // an open descriptor
  bool is_write = false;
  int64_t offset = 0;
  std::byte* memory = nullptr;
  int64_t num_bytes = 0;
  int slot = 0;  // comes back with the completion
};

struct IoCompletion {
  int slot = 0;
  int64_t result = 0;  // bytes, which may be fewer than were asked for, or -errno
};

// Requests on their way to the operating system and back, at most AioOptions::max_in_flight() at a time. Used by one thread at a time.
// What is in flight when a queue goes is abandoned: its memory may still be read or written, its file too. RunError where requests can
// neither be made nor waited for any more. Tests put queues that err, dawdle and reorder around a real one.
class IoQueue {
 public:
  virtual ~IoQueue() = default;
  // As the log says it: the kind, and where it is the second choice the reason.
  virtual std::string name() const = 0;
  // Starts the requests, in any order.
  virtual void submit(std::span<const IoRequest> requests) = 0;
  // Blocks until at least one request in flight is done, but not longer than `seconds`. What is done, in any order; nothing when time is
  // up.
  virtual std::vector<IoCompletion> wait(double seconds) = 0;
};

// Through io_uring. RunError with the reason where this kernel or container has none for this process.
std::unique_ptr<IoQueue> make_uring_queue(const AioOptions& options);
// Through pread and pwrite in threads: as many as a queue may have requests in flight, kMostIoThreads at most. `reason`: why not through
// io_uring, or "".
inline constexpr int kMostIoThreads = 64;
IoQueueMaker thread_queues(std::string reason = "");
// Through io_uring where that is possible, else through threads.
IoQueueMaker io_queues();

}  // namespace zerostep
