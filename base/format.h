#pragma once
#include <cstdint>
#include <string>

namespace zerostep {

// Numbers as people read them.
std::string grouped(int64_t value);                    // 1,234,567
std::string human_count(double value);                 // 124.4 M: three or four significant digits, decimal prefixes
std::string human_bytes(int64_t num_bytes);            // 1.50 GiB
std::string human_duration(double seconds);            // 42 s, 3:05, 2:03:05, 3 d 04:05
std::string counted(int64_t count, const char* what);  // 1 rank, 2 ranks
// The shortest decimal that reads back as the same double; nan, inf and -inf as such.
std::string round_trip(double value);

}  // namespace zerostep
