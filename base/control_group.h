#pragma once
#include <cstdint>
#include <optional>
#include <string>

namespace zerostep {

// Bytes that this process may still take before a control group that it is in (its own or one above it; version 1 or 2) reaches its memory
// limit. Page cache does not count as taken: it goes when memory is asked for. Nothing where no group has a limit. Batch systems limit a
// job in a group of its own. `root` stands before /proc and /sys.
std::optional<int64_t> free_bytes_in_control_groups(const std::string& root = "");

}  // namespace zerostep
