#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace zerostep {

// Numbers as people read them.
std::string grouped(int64_t value);                               // 1,234,567
std::string human_count(double value);                            // 124.4 M: three or four significant digits, decimal prefixes
std::string human_quantity(double value, std::string_view unit);  // "1.50 GFLOPs", "12 FLOPs": the prefix is the unit's
std::string human_bytes(int64_t num_bytes);                       // 1.50 GiB
// Two numbers of bytes that are told beside each other: exact where they differ and are the same for people.
struct ComparedBytes {
  std::string one, other;
};
ComparedBytes compared_bytes(int64_t one, int64_t other);
std::string human_duration(double seconds);                  // 42 s, 3:05, 2:03:05, 3 d 04:05
std::string human_step_time(double seconds);                 // 7.5 ms, 12.34 s, 151.5 min: of one step, as far as it is predicted
std::string counted(int64_t count, const char* what);        // 1 rank, 2 ranks
std::string ranges_text(const std::vector<int>& ascending);  // 0-3, 5
// The shortest decimal that reads back as the same double; nan, inf and -inf as such.
std::string round_trip(double value);

}  // namespace zerostep
