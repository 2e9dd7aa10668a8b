#include "base/format.h"

#include <fmt/format.h>

#include <array>
#include <cmath>

namespace zerostep {
namespace {

// `value` below 1000 with about three significant digits.
std::string short_number(double value) {
  const double size = std::abs(value);
  return size >= 99.95 ? fmt::format("{:.0f}", value) : size >= 9.995 ? fmt::format("{:.1f}", value) : fmt::format("{:.2f}", value);
}

}  // namespace

std::string grouped(int64_t value) {
  std::string digits = fmt::format("{}", value);
  const size_t first = value < 0 ? 1 : 0;
  for (size_t at = digits.size(); at > first + 3;) digits.insert(at -= 3, ",");
  return digits;
}

std::string counted(int64_t count, const char* what) { return fmt::format("{} {}{}", count, what, count == 1 ? "" : "s"); }

std::string ranges_text(const std::vector<int>& ascending) {
  std::string out;
  for (size_t begin = 0, end = 0; begin < ascending.size(); begin = end) {
    for (end = begin + 1; end < ascending.size() && ascending[end] == ascending[end - 1] + 1;) ++end;
    out += fmt::format("{}{}", out.empty() ? "" : ", ", ascending[begin]);
    if (end > begin + 1) out += fmt::format("-{}", ascending[end - 1]);
  }
  return out;
}

std::string human_count(double value) {
  if (!std::isfinite(value)) return round_trip(value);
  constexpr std::array kPrefixes{"", " k", " M", " G", " T", " P", " E"};
  size_t prefix = 0;
  while (std::abs(value) >= 999.5 && prefix + 1 < kPrefixes.size()) {
    value /= 1000;
    ++prefix;
  }
  if (prefix == 0) return value == std::floor(value) ? fmt::format("{:.0f}", value) : short_number(value);
  return (std::abs(value) >= 99.95 ? fmt::format("{:.1f}", value) : short_number(value)) + kPrefixes[prefix];
}

std::string human_quantity(double value, std::string_view unit) {
  const std::string number = human_count(value);
  return fmt::format("{}{}{}", number, number.find(' ') == number.npos ? " " : "", unit);
}

std::string human_bytes(int64_t num_bytes) {
  constexpr std::array kPrefixes{" B", " KiB", " MiB", " GiB", " TiB", " PiB", " EiB"};
  double value = static_cast<double>(num_bytes);
  size_t prefix = 0;
  while (std::abs(value) >= 1023.5 && prefix + 1 < kPrefixes.size()) {
    value /= 1024;
    ++prefix;
  }
  return (prefix == 0 ? fmt::format("{}", num_bytes) : short_number(value)) + kPrefixes[prefix];
}

ComparedBytes compared_bytes(int64_t one, int64_t other) {
  ComparedBytes out{human_bytes(one), human_bytes(other)};
  if (out.one == out.other && one != other) out = {grouped(one) + " bytes", grouped(other) + " bytes"};
  return out;
}

std::string human_duration(double seconds) {
  if (!(seconds >= 0) || seconds > 1e12) return "?";
  if (seconds < 9.95) return fmt::format("{:.1f} s", seconds);
  const auto whole = static_cast<int64_t>(std::llround(seconds));
  if (whole < 60) return fmt::format("{} s", whole);
  const int64_t minutes = whole / 60, hours = minutes / 60, days = hours / 24;
  if (hours == 0) return fmt::format("{}:{:02}", minutes, whole % 60);
  if (days == 0) return fmt::format("{}:{:02}:{:02}", hours, minutes % 60, whole % 60);
  return fmt::format("{} d {:02}:{:02}", days, hours % 24, minutes % 60);
}

std::string human_step_time(double seconds) {
  if (seconds < 0.99995) return fmt::format("{:.1f} ms", 1e3 * seconds);
  return seconds < 599.995 ? fmt::format("{:.2f} s", seconds) : fmt::format("{:.1f} min", seconds / 60);
}

std::string round_trip(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
  return fmt::format("{}", value);
}

}  // namespace zerostep
