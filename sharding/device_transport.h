#pragma once
#include <exception>
#include <functional>
#include <memory>
#include <span>
#include <string>

#include "base/error.h"
#include "sharding/communicator.h"
#include "sharding/rank_sum.h"

namespace zerostep {

class DeviceTransport;

// What a transport of a rank begins with.
struct TransportStart {
  int rank, size;
  std::string group;       // an id of NCCL's, or a name that no other group of the process has
  double timeout_seconds;  // of the start, and of a call that waits for the other ranks
  // Throws when another rank has failed or died.
  std::function<void()> check_peers;
  // The operation that calls are for, as errors name it. Within a call.
  std::function<std::string()> operation;
};
// The function that makes one, behind the name that a backend has for it. The device must outlive what is made. RunError where it does not
// start.
using StartTransport = void(const Device::Impl& device, const TransportStart& start, std::unique_ptr<DeviceTransport>& transport);

// How the GPUs of a group's ranks move values to each other, one object a rank and group. Ranks are those of the group, which has two or
// more. Work is put on streams of this rank's device, in one order on every rank; a call may block until the GPUs are connected, for as
// long as no peer fails. What cannot be put there is a failure of the stream. Operands are where Device::reaches() says. From any thread,
// one call at a time but for failure(), fail() and abort().
class DeviceTransport {
 public:
  virtual ~DeviceTransport() = default;
  // Bytes that this rank gives to another one, or takes from it.
  struct Message {
    int peer;
    void* data;
    int64_t num_bytes;
    bool is_taken;
  };
  // All of them at once. Those from one rank to another go in order.
  virtual void exchange(std::span<const Message> messages, Stream& stream) = 0;
  virtual void all_gather(std::span<const Segment> segments, DType type, Stream& stream) = 0;
  virtual void broadcast(std::span<const Segment> segments, DType type, int root, Stream& stream) = 0;
  // Sums of fp32 in an order of the transport's own, where has_own_sums().
  virtual bool has_own_sums() const { return false; }
  virtual void reduce_scatter(std::span<const Segment>, Stream&) { fail_protocol("[transport] it has no reduce-scatter of its own"); }
  virtual void all_reduce(std::span<const Segment>, Stream&) { fail_protocol("[transport] it has no all-reduce of its own"); }

  virtual void sum(const RankSum& sum, Stream& stream) = 0;

  // What the transport says has gone wrong with what is under way; "": nothing that it knows of.
  virtual std::string failure() { return ""; }
  // The work before the event has failed: what waits for it, and all that comes after it on the device, learns why.
  virtual void fail(const Event& event, std::exception_ptr failure) = 0;
  // Ends what is under way; what is put afterwards fails with the reason.
  virtual void abort(std::exception_ptr reason) noexcept = 0;
};

}  // namespace zerostep
