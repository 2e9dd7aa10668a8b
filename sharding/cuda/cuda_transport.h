#pragma once
#include <chrono>

#include "base/cuda/cuda_device.h"
#include "base/cuda/cuda_stream.h"
#include "base/error.h"
#include "sharding/cuda/sum.h"
#include "sharding/device_transport.h"

namespace zerostep {

// What transports on CUDA have in common.
class CudaTransport : public DeviceTransport {
 public:
  void sum(const RankSum& sum, Stream& stream) override {
    if (sum.count == 0) return;
    stream.launch([&] {
      device_.context().check(cuda::sum({static_cast<cudaStream_t>(stream.native_handle()), max_blocks_}, sum), "a sum cannot be queued");
    });
  }
  void fail(const Event& event, std::exception_ptr failure) override { fail_work_before(event, std::move(failure)); }

 protected:
  using Clock = std::chrono::steady_clock;
  static constexpr auto kPeersPoll = std::chrono::milliseconds(1);

  CudaTransport(const CudaDevice& device, const TransportStart& start) : device_(device), start_(start) {
    device_.context().make_current();
    device_.context().check(cuda::find_max_blocks(device_.context().index(), max_blocks_), "its number of processors cannot be read");
  }

  static double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }
  // Throws where what a call waits for does not come: `not_yet` says what that is.
  void look_at_peers(Clock::time_point begin, const std::string& not_yet) const {
    start_.check_peers();
    if (seconds_since(begin) > start_.timeout_seconds)
      fail_run("rank {}: {}: {} for {:.3g} s", start_.rank, start_.operation(), not_yet, start_.timeout_seconds);
  }

  const CudaDevice& device_;
  const TransportStart start_;

 private:
  unsigned max_blocks_ = 1;
};

}  // namespace zerostep
