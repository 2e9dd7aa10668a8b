#pragma once
#include <cstddef>
#include <cstdint>
#include <span>

namespace zerostep {

struct CopiedRun {
  const std::byte* from;
  std::byte* to;
  int64_t num_bytes;
};
// Copies runs of any sizes, shared out evenly among LibTorch's threads. Blocks.
void copy_runs(std::span<const CopiedRun> runs);

}  // namespace zerostep
