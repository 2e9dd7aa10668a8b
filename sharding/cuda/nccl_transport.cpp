#include "sharding/cuda/nccl_transport.h"

#include <cstring>
#include <memory>
#include <mutex>
#include <thread>

#include "sharding/cuda/cuda_transport.h"
#include "sharding/cuda/nccl_library.h"

namespace zerostep {
namespace {

constexpr auto kPoll = std::chrono::microseconds(20);  // a call of NCCL that has not ended
constexpr double kEndSeconds = 5;                      // for the other ranks to end as well

std::string hexadecimal(const void* data, size_t num_bytes) {
  std::string out;
  for (size_t i = 0; i < num_bytes; ++i) out += fmt::format("{:02x}", static_cast<const unsigned char*>(data)[i]);
  return out;
}

ncclUniqueId id_of(const std::string& text) {
  ncclUniqueId id;
  if (text.size() != 2 * sizeof id.internal) fail_protocol("[nccl] an id of {} characters", text.size());
  for (size_t i = 0; i < sizeof id.internal; ++i) id.internal[i] = static_cast<char>(std::stoi(text.substr(2 * i, 2), nullptr, 16));
  return id;
}

// A communicator of NCCL that does not block: a call has ended when NCCL says so, and until then nothing is known to be on the stream.
class NcclTransport final : public CudaTransport {
 public:
  NcclTransport(const CudaDevice& device, const TransportStart& start) : CudaTransport(device, start) {
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    try {
      check(nccl_.init_rank(&comm_, start.size, id_of(start.group), start.rank, &config), "start");
      const auto begin = Clock::now();
      for (; state() == ncclInProgress; std::this_thread::sleep_for(kPeersPoll)) look_at_peers(begin, kNotYet);
      check(state(), "start");
    } catch (...) {
      abort(std::current_exception());
      throw;
    }
  }

  // The ranks end together, unless one of them does not come.
  ~NcclTransport() override {
    std::lock_guard lock(mutex_);
    if (comm_ == nullptr) return;
    const ncclResult_t finalized = nccl_.finalize(comm_);
    const auto begin = Clock::now();
    while (finalized == ncclInProgress && state() == ncclInProgress && seconds_since(begin) < kEndSeconds)
      std::this_thread::sleep_for(kPoll);
    const bool has_ended = (finalized == ncclSuccess || finalized == ncclInProgress) && state() == ncclSuccess;
    has_ended ? nccl_.destroy(comm_) : nccl_.abort(comm_);
  }

  void exchange(std::span<const Message> messages, Stream& stream) override {
    call(stream, [&](cudaStream_t on) {
      for (const Message& m : messages) {
        const auto size = static_cast<size_t>(m.num_bytes);
        check(
            m.is_taken ? nccl_.receive(m.data, size, ncclUint8, m.peer, comm_, on) : nccl_.send(m.data, size, ncclUint8, m.peer, comm_, on),
            "exchange");
      }
    });
  }
  void all_gather(std::span<const Segment> segments, DType type, Stream& stream) override {
    call(stream, [&](cudaStream_t on) {
      for (const Segment& s : segments)
        if (s.count > 0)
          check(nccl_.all_gather(s.source, s.target, static_cast<size_t>(num_bytes(s.count, type)), ncclUint8, comm_, on), "all-gather");
    });
  }
  void broadcast(std::span<const Segment> segments, DType type, int root, Stream& stream) override {
    call(stream, [&](cudaStream_t on) {
      for (const Segment& s : segments)
        if (s.count > 0)
          check(nccl_.broadcast(s.target, s.target, static_cast<size_t>(num_bytes(s.count, type)), ncclUint8, root, comm_, on),
                "broadcast");
    });
  }
  bool has_own_sums() const override { return true; }
  void reduce_scatter(std::span<const Segment> segments, Stream& stream) override {
    call(stream, [&](cudaStream_t on) {
      for (const Segment& s : segments)
        if (s.count > 0)
          check(nccl_.reduce_scatter(s.source, s.target, static_cast<size_t>(s.count), ncclFloat32, ncclSum, comm_, on), "reduce-scatter");
    });
  }
  void all_reduce(std::span<const Segment> segments, Stream& stream) override {
    call(stream, [&](cudaStream_t on) {
      for (const Segment& s : segments)
        if (s.count > 0)
          check(nccl_.all_reduce(s.source, s.target, static_cast<size_t>(s.count), ncclFloat32, ncclSum, comm_, on), "all-reduce");
    });
  }

  std::string failure() override {
    std::lock_guard lock(mutex_);
    if (comm_ == nullptr) return "NCCL's communicator was aborted";
    const ncclResult_t now = state();
    return now == ncclSuccess || now == ncclInProgress ? "" : fmt::format("NCCL says: {}", nccl_.error_string(now));
  }
  void abort(std::exception_ptr reason) noexcept override {
    std::lock_guard lock(mutex_);
    if (comm_ != nullptr) nccl_.abort(comm_);
    comm_ = nullptr;
    reason_ = std::move(reason);
  }

 private:
  // Calls functions of NCCL as one group, and waits until they are on the stream.
  template <typename Body>
  void call(Stream& stream, const Body& body) {
    stream.launch([&] {
      std::unique_lock lock(mutex_);
      require_communicator();
      check(nccl_.group_start(), "group");
      try {
        body(static_cast<cudaStream_t>(stream.native_handle()));
      } catch (...) {
        nccl_.group_end();
        throw;
      }
      check(nccl_.group_end(), "group");
      const auto begin = Clock::now();
      auto looked = begin;
      for (ncclResult_t now = state(); now != ncclSuccess; now = state()) {
        check(now, "group");
        lock.unlock();
        std::this_thread::sleep_for(kPoll);
        if (Clock::now() - looked > kPeersPoll) {  // the first messages between two GPUs connect them
          try {
            look_at_peers(begin, kNotYet);
          } catch (...) {
            abort(std::current_exception());
            throw;
          }
          looked = Clock::now();
        }
        lock.lock();
        require_communicator();
      }
    });
  }
  void require_communicator() const {
    if (comm_ == nullptr) std::rethrow_exception(reason_);
  }
  ncclResult_t state() const {
    ncclResult_t now = ncclSuccess;
    const ncclResult_t error = nccl_.async_error(comm_, &now);
    return error == ncclSuccess ? now : error;
  }
  void check(ncclResult_t result, const char* what) const {
    if (result != ncclSuccess && result != ncclInProgress)
      fail_run("[{}] NCCL refuses a {} among {} ranks: {}", device_.name(), what, start_.size, nccl_.error_string(result));
  }

  static constexpr const char* kNotYet = "NCCL waits for other ranks (NCCL_DEBUG=INFO tells for what)";

  const NcclLibrary& nccl_ = NcclLibrary::instance();
  std::mutex mutex_;  // of comm_, which another thread may abort
  ncclComm_t comm_ = nullptr;
  std::exception_ptr reason_;  // for which it was
};

}  // namespace
}  // namespace zerostep

void zerostep_greet_for_nccl_3(const zerostep::Device::Impl& device, int rank, zerostep::NcclGreeting& greeting) {
  const auto& gpu = static_cast<const zerostep::CudaDevice&>(device);
  cudaDeviceProp properties = {};
  gpu.context().check(cudaGetDeviceProperties(&properties, gpu.context().index()), "its model is not known");
  greeting.gpu = zerostep::hexadecimal(&properties.uuid, sizeof properties.uuid);
  gpu.load_operators();  // libnccl.so.2 is found beside LibTorch's
  const zerostep::NcclLibrary& nccl = zerostep::NcclLibrary::instance();
  greeting.why_not = nccl.why_not;
  if (rank != 0 || !greeting.why_not.empty()) return;
  ncclUniqueId id;
  gpu.context().make_current();
  if (const ncclResult_t error = nccl.get_unique_id(&id); error != ncclSuccess)
    greeting.why_not = fmt::format("NCCL does not start: {}", nccl.error_string(error));
  else
    greeting.id = zerostep::hexadecimal(id.internal, sizeof id.internal);
}

void zerostep_start_nccl_3(const zerostep::Device::Impl& device, const zerostep::TransportStart& start,
                           std::unique_ptr<zerostep::DeviceTransport>& transport) {
  transport = std::make_unique<zerostep::NcclTransport>(static_cast<const zerostep::CudaDevice&>(device), start);
}
