#include "runtime/state/store.h"

#include <fmt/ranges.h>

#include <algorithm>

#include "base/error.h"
#include "base/keep_for_ever.h"
#include "base/nth.h"

namespace zerostep {
namespace {

int64_t total(const std::vector<PlannedBuffer>& buffers, Tier tier, bool communicated) {
  int64_t n = 0;
  for (const PlannedBuffer& b : buffers) n += b.tier == tier && b.communicated == communicated ? b.bytes : 0;
  return n;
}

// What rests in files of one set: parameters, or the rest.
bool is_in(const PlannedBuffer& b, bool is_parameters) {
  return b.tier == Tier::File && (b.id.kind == BufferKind::Parameters) == is_parameters;
}

// `pinned`: locks it; nullptr: memory of the device.
Arena communicated_arena(int64_t size, Communicator& group, PinnedMemory* pinned) {
  const MemoryKind kind = pinned == nullptr ? MemoryKind::Device : MemoryKind::PinnedHost;
  if (size == 0) return Arena("communicated", nullptr, nullptr, 0);
  struct Owner {
    std::shared_ptr<CommBuffer> buffer;
    std::shared_ptr<void> lock;  // goes first
  };
  const auto owner = std::make_shared<Owner>(Owner{group.allocate(static_cast<size_t>(size), "arena", kind), nullptr});
  void* data = owner->buffer->data();
  if (pinned != nullptr && data != nullptr) owner->lock = pinned->pin(data, size);
  return Arena("communicated", owner, data, size);
}

}  // namespace

std::vector<ScratchDemand> scratch_demands(const std::vector<PlannedBuffer>& buffers, const TierOptions& options) {
  std::vector<ScratchDemand> out;
  for (const bool is_parameters : {true, false}) {
    std::vector<FileBuffer> in_files;
    for (const PlannedBuffer& b : buffers)
      if (is_in(b, is_parameters)) in_files.push_back({b.name, b.bytes, b.chunk_bytes});
    if (in_files.empty()) continue;
    for (ScratchDemand& demand : ScratchFiles::demands(in_files, is_parameters ? options.parameters : options.state))
      out.push_back(std::move(demand));
  }
  return out;
}

Store::Store(const std::vector<PlannedBuffer>& buffers, Communicator group, const Device& device, const TierOptions& options)
    : pinned_(options.pinned) {
  arenas_.push_back({communicated_arena(total(buffers, Tier::Device, true), group, nullptr),
                     device.memory("device", total(buffers, Tier::Device, false))});
  Arena communicated = communicated_arena(total(buffers, Tier::Host, true), group, &pinned_);
  is_communicated_memory_pinned_ = pinned_.pageable_bytes() == 0;
  arenas_.push_back({std::move(communicated), pinned_.memory("host", total(buffers, Tier::Host, false))});
  pinned_.warn_of_pageable();
  for (const bool is_staging : {true, false})  // whose slots begin at pages then
    for (const PlannedBuffer& b : buffers) {
      if ((b.id.kind == BufferKind::StagingSlot) != is_staging) continue;
      const auto kind = static_cast<size_t>(b.id.kind), index = static_cast<size_t>(b.id.index);
      if (entries_.size() <= kind) entries_.resize(kind + 1);
      if (entries_[kind].size() <= index) entries_[kind].resize(index + 1);
      Entry& entry = entries_[kind][index];
      if (!entry.fetched.empty()) fail_protocol("[store] {} and {} have one id", entry.name, b.name);
      entry.name = b.name;
      entry.chunk_bytes = b.chunk_bytes;
      entry.staging_ring = b.staging_ring;
      entry.first_slot = b.first_slot;
      if (b.tier != Tier::File) {
        Arenas& arenas = nth(arenas_, b.tier);
        entry.data = static_cast<std::byte*>((b.communicated ? arenas.communicated : arenas.alone).allocate(b.bytes, b.name));
      }
      entry.fetched.assign(static_cast<size_t>(b.num_chunks), 0);
    }
  files_.push_back(make_files(buffers, true, options.parameters));
  files_.push_back(make_files(buffers, false, options.state));
}

Store::~Store() {
  for (const auto& files : files_)
    if (files && files->has_abandoned()) {
      keep_for_ever(std::move(arenas_));
      return;
    }
}

std::unique_ptr<ScratchFiles> Store::make_files(const std::vector<PlannedBuffer>& buffers, bool is_parameters,
                                                const ScratchOptions& options) {
  std::vector<FileBuffer> in_files;
  std::vector<Entry*> entries;
  for (const PlannedBuffer& b : buffers) {
    if (!is_in(b, is_parameters)) continue;
    entries.push_back(&nth(nth(entries_, b.id.kind), b.id.index));
    in_files.push_back({b.name, b.bytes, b.chunk_bytes});
  }
  if (entries.empty()) return nullptr;
  auto files = std::make_unique<ScratchFiles>(options, std::move(in_files));
  for (size_t i = 0; i < entries.size(); ++i) {
    entries[i]->files = files.get();
    entries[i]->file_buffer = static_cast<int>(i);
  }
  return files;
}

int64_t Store::file_bytes() const {
  int64_t bytes = 0;
  for (const auto& files : files_) bytes += files ? files->num_bytes() : 0;
  return bytes;
}

std::string Store::describe_files() const {
  std::vector<std::string> texts;
  for (const auto& files : files_)
    if (files) texts.push_back(fmt::format("{}, in {}", files->description(), fmt::join(files->folders(), ", ")));
  texts.erase(std::unique(texts.begin(), texts.end()), texts.end());
  return fmt::format("{}", fmt::join(texts, "; "));
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

Event Store::load(const Buffer& chunk, Stream& lane) {
  const Entry& found = entry(chunk, "load");
  if (found.files == nullptr) return Event();
  file_traffic_.bytes_read += found.files->bytes_of(found.file_buffer, chunk.chunk);
  return found.files->read(lane, found.file_buffer, chunk.chunk, view(chunk));
}

Event Store::save(const Buffer& chunk, Stream& lane) {
  const Entry& found = entry(chunk, "save");
  if (found.files == nullptr) return Event();
  file_traffic_.bytes_written += found.files->bytes_of(found.file_buffer, chunk.chunk);
  return found.files->write(lane, found.file_buffer, chunk.chunk, view(chunk));
}

Event Store::fetch(const Buffer& chunk, Stream& stream) {
  int& times = fetched(chunk, "fetch");
  if (int* in_slot = slot_fetched(chunk); in_slot != nullptr && ++*in_slot > times + 1) {
    --*in_slot;
    fail_protocol("[store] fetch of chunk {} of {}, whose slot holds another", chunk.chunk, entry(chunk, "fetch").name);
  }
  ++times;
  return load(chunk, stream);
}

Event Store::release(const Buffer& chunk, bool is_changed, Stream& stream) {
  int& times = fetched(chunk, "release");
  if (times == 0) fail_protocol("[store] release of chunk {} of {}, which was not fetched", chunk.chunk, entry(chunk, "release").name);
  --times;
  if (int* in_slot = slot_fetched(chunk); in_slot != nullptr) --*in_slot;
  return is_changed ? save(chunk, stream) : Event();
}

int* Store::slot_fetched(const Buffer& chunk) {
  const Entry& found = entry(chunk, "slot");
  if (found.staging_ring < 0) return nullptr;
  std::vector<int>& slots = nth(nth(entries_, BufferKind::StagingSlot), found.staging_ring).fetched;
  return &nth(slots, (found.first_slot + chunk.chunk) % std::ssize(slots));
}

std::byte* Store::view(const Buffer& chunk) const {
  const Entry& found = entry(chunk, "view");
  if (found.staging_ring < 0) return found.data + chunk.chunk * found.chunk_bytes;
  const Entry& ring = nth(nth(entries_, BufferKind::StagingSlot), found.staging_ring);
  return ring.data + (found.first_slot + chunk.chunk) % std::ssize(ring.fetched) * ring.chunk_bytes;
}

}  // namespace zerostep
