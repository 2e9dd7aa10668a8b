#include "runtime/state/store.h"

#include "base/error.h"
#include "base/nth.h"

namespace zerostep {
namespace {

int64_t total(const std::vector<PlannedBuffer>& buffers, bool communicated) {
  int64_t n = 0;
  for (const PlannedBuffer& b : buffers) n += b.communicated == communicated ? b.bytes : 0;
  return n;
}

Arena communicated_arena(int64_t size, Communicator& group) {
  if (size == 0) return Arena("communicated", nullptr, nullptr, 0);
  auto buffer = group.allocate(static_cast<size_t>(size), "arena");
  void* data = buffer->data();
  return Arena("communicated", std::move(buffer), data, size);
}

}  // namespace

Store::Store(const std::vector<PlannedBuffer>& buffers, Communicator group, const Device& device)
    : communicated_(communicated_arena(total(buffers, true), group)), private_(device.memory("private", total(buffers, false))) {
  for (const PlannedBuffer& b : buffers) {
    const auto kind = static_cast<size_t>(b.id.kind), index = static_cast<size_t>(b.id.index);
    if (entries_.size() <= kind) entries_.resize(kind + 1);
    if (entries_[kind].size() <= index) entries_[kind].resize(index + 1);
    Entry& entry = entries_[kind][index];
    if (!entry.fetched.empty()) fail_protocol("[store] {} and {} have one id", entry.name, b.name);
    entry.name = b.name;
    entry.chunk_bytes = b.chunk_bytes;
    entry.data = static_cast<std::byte*>((b.communicated ? communicated_ : private_).allocate(b.bytes, b.name));
    entry.fetched.assign(static_cast<size_t>(b.num_chunks), 0);
  }
}

const Store::Entry* Store::find(BufferKind kind, int index) const {
  const auto k = static_cast<size_t>(kind), i = static_cast<size_t>(index);
  if (k >= entries_.size() || i >= entries_[k].size() || entries_[k][i].fetched.empty()) return nullptr;
  return &entries_[k][i];
}

const Store::Entry& Store::entry(const Buffer& chunk, const char* what) const {
  const Entry* found = find(chunk.kind, chunk.index);
  if (found == nullptr) fail_protocol("[store] {} of {} {}, which the plan does not have", what, name_of(chunk.kind), chunk.index);
  if (chunk.chunk < 0 || chunk.chunk >= std::ssize(found->fetched))
    fail_protocol("[store] {} of chunk {} of {}, which has {}", what, chunk.chunk, found->name, found->fetched.size());
  return *found;
}

int& Store::fetched(const Buffer& chunk, const char* what) {
  entry(chunk, what);
  return nth(nth(nth(entries_, chunk.kind), chunk.index).fetched, chunk.chunk);
}

Event Store::fetch(const Buffer& chunk, Stream&) {
  ++fetched(chunk, "fetch");
  return Event();
}

void Store::release(const Buffer& chunk, bool, Stream&) {
  int& times = fetched(chunk, "release");
  if (times == 0) fail_protocol("[store] release of chunk {} of {}, which was not fetched", chunk.chunk, entry(chunk, "release").name);
  --times;
}

std::byte* Store::view(const Buffer& chunk) const {
  const Entry& found = entry(chunk, "view");
  return found.data + chunk.chunk * found.chunk_bytes;
}

}  // namespace zerostep
