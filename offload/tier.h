#pragma once
#include <cstdint>

namespace zerostep {

// Where a buffer rests.
enum class Tier : uint8_t {
  Device,  // where it is computed on
  Host,    // in memory of the host, which the device copies from and to
  File,
};
constexpr int kTiers = 3;
// Chunks in files begin at multiples of this: what direct input and output takes on every disk.
constexpr int64_t kFileAlignmentBytes = 4096;
constexpr const char* name_of(Tier tier) { return tier == Tier::Device ? "device" : tier == Tier::Host ? "host" : "file"; }

// Of what is used together with others, which may have no room side by side in the slots of the file tier.
constexpr Tier at_most_host(Tier tier) { return tier == Tier::File ? Tier::Host : tier; }

}  // namespace zerostep
