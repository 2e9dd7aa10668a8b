#include <liburing.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cmath>
#include <cstring>
#include <thread>

#include "base/error.h"
#include "offload/io/io_queue.h"

namespace zerostep {
namespace {

class UringQueue final : public IoQueue {
 public:
  explicit UringQueue(const AioOptions& options) : is_single_(options.single_submit) {
    io_uring_params parameters = {};
    parameters.flags = IORING_SETUP_CLAMP;
    const int status = io_uring_queue_init_params(static_cast<unsigned>(options.max_in_flight()), &ring_, &parameters);
    if (status < 0) fail_run("io_uring is not to be had: {}", std::strerror(-status));
    try {
      require_reads_and_writes();
    } catch (...) {
      io_uring_queue_exit(&ring_);
      throw;
    }
  }
  ~UringQueue() override { io_uring_queue_exit(&ring_); }
  UringQueue(const UringQueue&) = delete;
  UringQueue& operator=(const UringQueue&) = delete;

  std::string name() const override { return "io_uring"; }

  void submit(std::span<const IoRequest> requests) override {
    for (const IoRequest& request : requests) {
      io_uring_sqe* entry = next_entry();
      const auto size = static_cast<unsigned>(request.num_bytes);
      const auto offset = static_cast<uint64_t>(request.offset);
      if (request.is_write)
        io_uring_prep_write(entry, request.file, request.memory, size, offset);
      else
        io_uring_prep_read(entry, request.file, request.memory, size, offset);
      io_uring_sqe_set_data64(entry, static_cast<uint64_t>(request.slot));
      if (is_single_) flush();
    }
    flush();
  }

  std::vector<IoCompletion> wait(double seconds) override {
    const auto whole = static_cast<int64_t>(seconds);
    __kernel_timespec limit{whole, static_cast<int64_t>((seconds - std::floor(seconds)) * 1e9)};
    io_uring_cqe* entry = nullptr;
    // The kernel has no memory for a call just now, or completions of others are in its way.
    constexpr int kMostBusy = 1000;
    int status = 0;
    for (int busy = 0; busy < kMostBusy; ++busy) {
      do status = io_uring_wait_cqe_timeout(&ring_, &entry, &limit);
      while (status == -EINTR);
      if (status != -EAGAIN && status != -EBUSY) break;
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    if (status < 0 && status != -ETIME) fail_run("io_uring gives no completions: {}", std::strerror(-status));
    std::vector<IoCompletion> done;
    while (io_uring_peek_cqe(&ring_, &entry) == 0) {
      done.push_back({static_cast<int>(io_uring_cqe_get_data64(entry)), entry->res});
      io_uring_cqe_seen(&ring_, entry);
    }
    return done;
  }

 private:
  // A container may permit the ring and neither its use nor the operations, and so may an old kernel.
  void require_reads_and_writes() {
    io_uring_probe* probe = io_uring_get_probe_ring(&ring_);
    const bool knows = probe && io_uring_opcode_supported(probe, IORING_OP_READ) && io_uring_opcode_supported(probe, IORING_OP_WRITE);
    io_uring_free_probe(probe);
    if (!knows) fail_run("io_uring of this kernel does not read and write");
    io_uring_prep_nop(next_entry());
    flush();
    if (wait(10).size() != 1) fail_run("io_uring does not complete a request that does nothing");
  }

  io_uring_sqe* next_entry() {
    io_uring_sqe* entry = io_uring_get_sqe(&ring_);
    if (entry == nullptr) {  // full
      flush();
      entry = io_uring_get_sqe(&ring_);
    }
    return entry;
  }

  void flush() {
    for (int tries = 0; io_uring_sq_ready(&ring_) > 0;) {
      const int status = io_uring_submit(&ring_);
      if (status >= 0) continue;
      const bool is_passing = status == -EINTR || status == -EAGAIN || status == -EBUSY;
      if (!is_passing || ++tries > kTries) fail_run("io_uring takes no requests: {}", std::strerror(-status));
      ::usleep(1000);
    }
  }

  static constexpr int kTries = 1000;
  io_uring ring_ = {};
  bool is_single_;
};

}  // namespace

std::unique_ptr<IoQueue> make_uring_queue(const AioOptions& options) { return std::make_unique<UringQueue>(options); }

IoQueueMaker io_queues() {
  return [threads = std::make_shared<IoQueueMaker>()](const AioOptions& options) {
    try {
      if (!*threads) return make_uring_queue(options);
    } catch (const RunError& refusal) {
      *threads = thread_queues(refusal.what());
    }
    return (*threads)(options);
  };
}

}  // namespace zerostep
