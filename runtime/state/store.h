#pragma once
#include <string>
#include <vector>

#include "base/device.h"
#include "runtime/plan/plan.h"
#include "sharding/communicator.h"

namespace zerostep {

// The memory of one rank: every buffer that a plan lists, by its id, in arenas of exactly the planned size. What is needed of a chunk is
// asked for where it is needed and not kept: fetch() brings it to the device, view() says where it lies there, release() lets it rest
// again. Every buffer rests on the device: fetch() and release() count, and view() does not ask for them. Between steps each chunk is
// fetched (StateAccess); the actions of a step view what their plan says is there. A mistake throws ProtocolError and names the buffer.
class Store {
 public:
  // Collective (operands of collectives lie in the communicator's memory, the rest in the device's). All zero.
  Store(const std::vector<PlannedBuffer>& buffers, Communicator group, const Device& device);

  bool holds(BufferKind kind, int index = 0) const { return find(kind, index) != nullptr; }
  // The event is when the chunk is there; each fetch() has its release(). What rests on the device is there at once.
  Event fetch(const Buffer& chunk, Stream& stream);
  // The chunk may rest again once the stream has done what it holds so far. `is_changed`: its contents are kept.
  void release(const Buffer& chunk, bool is_changed, Stream& stream);
  // Where a chunk lies on the device, 64-byte aligned, until it is released.
  std::byte* view(const Buffer& chunk) const;

  // Of a chunk; the last one of a buffer may have fewer.
  int64_t bytes(const Buffer& chunk) const { return entry(chunk, "size").chunk_bytes; }
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
