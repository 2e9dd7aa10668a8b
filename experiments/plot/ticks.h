#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "experiments/plot/canvas.h"

namespace zerostep {

enum class AxisUnit : uint8_t { Number, Bytes, Seconds };

struct Tick {
  double value = 0;
  std::string label;  // "": a mark alone
};

// A scale on which values from `low` to `high` lie with a little room, its ends at round values where it is not logarithmic. Values that
// are all the same get some room.
Scale scale_of(double low, double high, bool is_log, AxisUnit unit);

// The same without room, for what is read from one end to the other, as steps are.
Scale tight_scale_of(double low, double high, bool is_log, AxisUnit unit);

// Round values on a scale, about `most` of them with labels, and two at least; "20k", "1.5 GiB", "10 min", 10^-3 as "0.001" or "1e-3".
std::vector<Tick> ticks_of(const Scale& scale, AxisUnit unit, int most);

std::string_view name_of(AxisUnit unit);  // "bytes", "seconds" or ""

// A value as text beside a picture: four significant digits, k, M, G; bytes and seconds with their unit.
std::string short_value(double value, AxisUnit unit);

}  // namespace zerostep
