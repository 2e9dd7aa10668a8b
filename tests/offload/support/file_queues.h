#pragma once
#include <linux/io_uring.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <memory>
#include <ostream>
#include <vector>

#include "offload/io/io_queue.h"

namespace zerostep::testing {

enum class QueueKind { IoUring, Threads };
inline void PrintTo(QueueKind kind, std::ostream* out) { *out << (kind == QueueKind::IoUring ? "io_uring" : "threads"); }

inline std::unique_ptr<IoQueue> make(QueueKind kind, const AioOptions& options) {
  return kind == QueueKind::IoUring ? make_uring_queue(options) : thread_queues()(options);
}

// 0, or why this machine makes no io_uring for this process, asked of the kernel itself.
inline int io_uring_error() {
  io_uring_params parameters = {};
  const long ring = ::syscall(SYS_io_uring_setup, 1, &parameters);
  if (ring < 0) return errno;
  ::close(static_cast<int>(ring));
  return 0;
}

// What this machine permits.
inline std::vector<QueueKind> queue_kinds() {
  if (io_uring_error() != 0) return {QueueKind::Threads};
  return {QueueKind::IoUring, QueueKind::Threads};
}

}  // namespace zerostep::testing
