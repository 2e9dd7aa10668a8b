#pragma once
#include <cstdint>
#include <random>
#include <string>

namespace zerostep::testing {

// Bytes of any value, the same for one seed.
inline std::string random_text(int64_t size, uint32_t seed) {
  std::mt19937 bits(seed);
  std::string text(static_cast<size_t>(size), '\0');
  for (char& c : text) c = static_cast<char>(bits());
  return text;
}

}  // namespace zerostep::testing
