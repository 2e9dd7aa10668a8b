#pragma once
#include <span>
#include <utility>

#include "sharding/communicator.h"

namespace zerostep {

// Lends memory to a group (Communicator::lend_staging) until it goes, which it does before the memory.
class LentStaging {
 public:
  LentStaging(Communicator group, std::span<std::byte> memory) : group_(std::move(group)), memory_(memory) { group_.lend_staging(memory_); }
  ~LentStaging() { group_.take_staging_back(memory_); }
  LentStaging(const LentStaging&) = delete;
  LentStaging& operator=(const LentStaging&) = delete;

 private:
  Communicator group_;
  std::span<std::byte> memory_;
};

}  // namespace zerostep
