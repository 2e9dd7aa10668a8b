#pragma once
#include <memory>
#include <string>
#include <vector>

#include "base/device.h"
#include "offload/pinned_memory.h"
#include "offload/scratch_files.h"
#include "runtime/plan/plan.h"
#include "sharding/communicator.h"

namespace zerostep {

// Bytes that a rank has read from its files, and written to them.
struct FileTraffic {
  int64_t bytes_read = 0, bytes_written = 0;
};

// How tiers other than the device are used.
struct TierOptions {
  PinnedOptions pinned;
  ScratchOptions parameters, state;  // of what rests in files; state: gradient shards and the optimizer's
};

// What the buffers of the file tier take of each folder.
std::vector<ScratchDemand> scratch_demands(const std::vector<PlannedBuffer>& buffers, const TierOptions& options);

// The memory of one rank: every buffer that a plan lists, by its id, in arenas of exactly the planned size and in files. What is needed of
// a chunk is asked for where it is needed and not kept. view() says where a chunk lies: where it rests or, of the file tier, in its staging
// slot, where it is while the plan says so (load(), save()) or, between steps, from fetch() to release(). A mistake throws ProtocolError
// and names the buffer.
class Store {
 public:
  // Collective (operands of collectives lie in the communicator's memory, the rest in that of the device or, by their tier, of its host).
  // All zero.
  Store(const std::vector<PlannedBuffer>& buffers, Communicator group, const Device& device, const TierOptions& options = {});
  // Memory that the system may still use for a read or write that was given up is never given back.
  ~Store();
  Store(const Store&) = delete;
  Store& operator=(const Store&) = delete;

  bool holds(BufferKind kind, int index = 0) const { return find(kind, index) != nullptr; }
  // Enqueue the read of a chunk from its file, or its write; what rests in memory is there at once. Which slot it is in, and that nobody
  // uses that meanwhile, is the plan's to say.
  Event load(const Buffer& chunk, Stream& lane);
  Event save(const Buffer& chunk, Stream& lane);
  // Between steps. The event is when the chunk is there; each fetch() has its release().
  Event fetch(const Buffer& chunk, Stream& stream);
  // The chunk may rest again; the event is when it does. `is_changed`: its contents are kept.
  Event release(const Buffer& chunk, bool is_changed, Stream& stream);
  // Where a chunk lies, 64-byte aligned.
  std::byte* view(const Buffer& chunk) const;

  // Of a chunk; the last one of a buffer may have fewer.
  int64_t bytes(const Buffer& chunk) const { return entry(chunk, "size").chunk_bytes; }
  bool is_in_file(const Buffer& chunk) const { return entry(chunk, "tier").staging_ring >= 0; }
  // Of the arenas of one tier.
  int64_t arena_bytes(Tier tier = Tier::Device) const {
    return nth(arenas_, tier).communicated.used_bytes() + nth(arenas_, tier).alone.used_bytes();
  }
  // Whether all memory of the host that collectives read and write is locked.
  bool is_communicated_memory_pinned() const { return is_communicated_memory_pinned_; }
  int64_t file_bytes() const;
  // Of all transfers that were enqueued.
  const FileTraffic& file_traffic() const { return file_traffic_; }
  // How files are read and written, for the log; "": there are none.
  std::string describe_files() const;

 private:
  struct Entry {
    std::string name;
    int64_t chunk_bytes = 0;
    std::byte* data = nullptr;
    std::vector<int> fetched;  // per chunk: times without a release
    // Of the file tier.
    int staging_ring = -1, first_slot = 0, file_buffer = 0;
    ScratchFiles* files = nullptr;
  };
  struct Arenas {
    Arena communicated, alone;
  };
  std::unique_ptr<ScratchFiles> make_files(const std::vector<PlannedBuffer>& buffers, bool is_parameters, const ScratchOptions& options);
  const Entry* find(BufferKind kind, int index) const;
  const Entry& entry(const Buffer& chunk, const char* what) const;
  int& fetched(const Buffer& chunk, const char* what);
  // Fetches without a release of what shares the chunk's slot; nullptr: it rests in memory.
  int* slot_fetched(const Buffer& chunk);

  PinnedMemory pinned_;
  bool is_communicated_memory_pinned_ = false;
  std::vector<Arenas> arenas_;                        // of device and host
  std::vector<std::vector<Entry>> entries_;           // per kind and index; without chunks: none
  std::vector<std::unique_ptr<ScratchFiles>> files_;  // of parameters, of state
  FileTraffic file_traffic_;
};

}  // namespace zerostep
