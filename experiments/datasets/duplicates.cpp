#include "experiments/datasets/duplicates.h"

#include <utility>

namespace zerostep {

DuplicateCounter::Slot& DuplicateCounter::slot_of(uint64_t hash) {
  // The low bits decide which hashes are looked at.
  for (size_t at = static_cast<size_t>(hash >> 20) & (slots_.size() - 1);; at = (at + 1) & (slots_.size() - 1))
    if (slots_[at].hash == hash || slots_[at].hash == 0) return slots_[at];
}

void DuplicateCounter::add(uint64_t hash) {
  if (hash == 0) hash = ~uint64_t{0} << 32;  // 0 marks a free slot
  if (!is_looked_at(hash)) return;
  Slot& slot = slot_of(hash);
  if (slot.hash == hash) {
    ++slot.repeats;
    ++repeats_;
    return;
  }
  slot.hash = hash;
  if (++used_ == kMost) look_at_half();
}

void DuplicateCounter::look_at_half() {
  ++skipped_bits_;
  repeats_ = 0;
  used_ = 0;
  const std::vector<Slot> before = std::exchange(slots_, std::vector<Slot>(2 * kMost));
  for (const Slot& slot : before) {
    if (slot.hash == 0 || !is_looked_at(slot.hash)) continue;
    slot_of(slot.hash) = slot;
    repeats_ += slot.repeats;
    ++used_;
  }
}

}  // namespace zerostep
