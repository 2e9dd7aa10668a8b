#pragma once
#include <string>
#include <vector>

#include "base/device.h"
#include "runtime/plan/plan.h"
#include "sharding/communicator.h"

namespace zerostep {

// The memory of one rank: every buffer that a plan lists, by its id, in arenas of exactly the planned size. What is needed of a chunk is
// asked for where it is needed and not kept: fetch() brings it to the device, view() says where it lies there, release() lets it rest
// again. Buffers that rest on the device are always there. A mistake throws ProtocolError and names the buffer.
class Store {
 public:
  // Collective (operands of collectives lie in the communicator's memory, the rest in the device's). All zero.
  Store(const std::vector<PlannedBuffer>& buffers, Communicator group, const Device& device);

  bool holds(BufferKind kind, int index = 0) const { return find(kind, index) != nullptr; }
  // The event is when the chunk is there; each fetch() has its release(). What rests on the device is there at once.
  Event fetch(const Buffer& chunk, Stream& stream);
  // Once what reads or changes it is done on the stream. `is_changed`: its contents are to be kept.
  void release(const Buffer& chunk, bool is_changed, Stream& stream);
  // Where a chunk lies on the device, 64-byte aligned, until it is released.
  std::byte* view(const Buffer& chunk) const;

  int64_t arena_bytes() const { return communicated_.used_bytes() + private_.used_bytes(); }

 private:
  struct Entry {
    std::string name;
    int64_t chunk_bytes = 0;
    std::byte* data = nullptr;
    std::vector<int> fetched;  // per chunk: times without a release
  };
  const Entry* find(BufferKind kind, int index) const;
  const Entry& entry(const Buffer& chunk, const char* what) const;
  int& fetched(const Buffer& chunk, const char* what);

  Arena communicated_, private_;
  std::vector<std::vector<Entry>> entries_;  // per kind and index; without chunks: none
};

}  // namespace zerostep
