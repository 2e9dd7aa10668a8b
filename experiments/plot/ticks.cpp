#include "experiments/plot/ticks.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "base/format.h"

namespace zerostep {
namespace {

// A value's size in the unit that an axis shows: "k", "GiB", "min".
struct Shown {
  double size = 1;
  const char* name = "";
};

Shown shown_in(double largest, AxisUnit unit) {
  constexpr std::array kBytes{"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
  constexpr std::array kThousands{"", "k", "M", "G", "T", "P", "E"};
  if (unit == AxisUnit::Seconds) {
    if (largest >= 3 * 86400) return {86400, "d"};
    if (largest >= 2 * 3600) return {3600, "h"};
    if (largest >= 180) return {60, "min"};
    return {1, "s"};
  }
  if (unit == AxisUnit::Bytes) {
    size_t i = 0;
    double size = 1;
    for (; largest / size >= 1024 && i + 1 < kBytes.size(); ++i) size *= 1024;
    return {size, kBytes[i]};
  }
  constexpr double kNoName = 1e21;  // from here on powers of ten say more
  if (largest >= kNoName) return {};
  size_t i = 0;
  double size = 1;
  for (; largest / size >= (i == 0 ? 10000 : 1000) && i + 1 < kThousands.size(); ++i) size *= 1000;
  return {size, kThousands[i]};
}

// The smallest of 1, 2, 2.5 and 5 times a power of ten that is not below.
double round_step(double least) {
  const double power = std::pow(10, std::floor(std::log10(least)));
  for (double factor : {1.0, 2.0, 2.5, 5.0})
    if (factor * power >= least * (1 - 1e-9)) return factor * power;
  return 10 * power;
}

std::string plain_number(double value, double step) {
  if (value == 0) return "0";
  if (std::abs(value) >= 1e15 || step < 1e-6) return fmt::format("{:g}", value);
  int decimals = std::max(0, static_cast<int>(std::ceil(-std::log10(step) - 1e-9)));
  if (std::abs(step * std::pow(10, decimals) - std::round(step * std::pow(10, decimals))) > 1e-6) ++decimals;  // 0.25
  return fmt::format("{:.{}f}", value, decimals);
}

std::string with_unit(double value, double step, AxisUnit unit, const Shown& shown) {
  const std::string number = plain_number(value / shown.size, step / shown.size);
  if (*shown.name == '\0' || number == "0") return number;
  return number + (unit == AxisUnit::Number ? "" : " ") + shown.name;
}

constexpr double kLargest = std::numeric_limits<double>::max();
constexpr double kLeastRange = 1e-300;  // of a scale that is not logarithmic; below it doubles have ever fewer digits

// Whether two bounds are so near to each other that a double has no numbers between them to be told apart.
bool are_alike(double low, double high) { return !(high - low > std::max(kLeastRange, 1e-12 * std::max(std::abs(low), std::abs(high)))); }

std::vector<Tick> linear_ticks(double low, double high, AxisUnit unit, int most) {
  if (are_alike(low, high)) return {{low, short_value(low, unit)}};
  constexpr size_t kLeast = 3;  // with fewer nothing can be read off
  const Shown shown = shown_in(std::max(std::abs(low), std::abs(high)), unit);
  std::vector<Tick> out;
  for (int wanted = std::max(1, most); out.size() < kLeast && wanted < most + 8; ++wanted) {
    out.clear();
    const double step = round_step((high / 2 - low / 2) / shown.size / wanted * 2) * shown.size;
    if (!std::isfinite(step)) continue;
    for (double k = std::ceil(low / step - 1e-9); k <= high / step + 1e-9; ++k) {
      const double value = k == 0 ? 0 : std::clamp(k * step, -kLargest, kLargest);
      out.push_back({value, with_unit(value, step, unit, shown)});
    }
  }
  return out;
}

// factor x 10^power, a value that a double has; 2000 is "2k" on an axis that has 10k.
std::string decade(double value, int factor, int power, AxisUnit unit, double highest) {
  constexpr double kFirstShort = 10000;
  if (unit != AxisUnit::Number) return short_value(value, unit);
  if (value >= 1000 && value < kFirstShort && highest >= kFirstShort) return fmt::format("{:g}k", value / 1000);
  if (value >= 1e-3 && value < kFirstShort) return fmt::format("{:g}", value);
  const Shown shown = shown_in(value, unit);
  if (value >= 10000 && value < 1e15) return fmt::format("{:g}{}", value / shown.size, shown.name);
  return fmt::format("{}e{}", factor, power);
}

std::vector<Tick> log_ticks(const Scale& scale, AxisUnit unit, int most) {
  const double decades = std::log10(scale.high) - std::log10(scale.low);
  if (decades < 1 && !are_alike(scale.low, scale.high)) return linear_ticks(scale.low, scale.high, unit, most);
  const auto is_within = [&](double value) {
    return value > 0 && std::isfinite(value) && value >= scale.low * (1 - 1e-9) && value <= scale.high * (1 + 1e-9);
  };
  const int first = static_cast<int>(std::floor(std::log10(scale.low)));
  const int last = static_cast<int>(std::ceil(std::log10(scale.high)));
  const auto powers = [&](int stride) {  // of ten that have a label where every `stride`th has one
    int count = 0;
    for (int power = first; power <= last; ++power) count += power % stride == 0 && is_within(std::pow(10, power)) ? 1 : 0;
    return count;
  };
  int stride = std::max(1, static_cast<int>(std::ceil(decades / std::max(1, most))));
  while (stride > 1 && powers(stride) < 2) --stride;
  const bool names_between = stride == 1 && (decades < 0.4 * most || powers(1) < 2);
  std::vector<Tick> out;
  for (int power = first; power <= last; ++power)
    for (int factor = 1; factor < 10; ++factor) {
      const double value = factor * std::pow(10, power);
      if (!is_within(value)) continue;
      const bool is_named = factor == 1 ? power % stride == 0 : names_between && (factor == 2 || factor == 5);
      if (!is_named && (stride > 1 || decades > 5)) continue;
      out.push_back({value, is_named ? decade(value, factor, power, unit, scale.high * (1 + 1e-9)) : ""});
    }
  return out;
}

}  // namespace

Scale scale_of(double low, double high, bool is_log, AxisUnit unit) {
  if (is_log) {
    const double room = high > low * (1 + 1e-9) ? std::exp(0.03 * (std::log(high) - std::log(low))) : 1.5;
    return {std::max(low / room, std::numeric_limits<double>::denorm_min()), std::min(high * room, kLargest), true};
  }
  if (are_alike(low, high)) {
    const double room = low == 0 ? 1 : std::max(kLeastRange, std::abs(low) * 0.1);
    return {std::max(low - room, -kLargest), std::min(high + room, kLargest), false};
  }
  const double room = 0.03 * high - 0.03 * low;
  const Shown shown = shown_in(std::max(std::abs(low), std::abs(high)), unit);
  const double step = round_step((high / 2 - low / 2) / shown.size / 10) * shown.size;
  const double bottom = low >= 0 && low - room < 0 ? 0 : low - room;
  return {std::max(std::floor(bottom / step) * step, -kLargest), std::min(std::ceil((high + room) / step) * step, kLargest), false};
}

Scale tight_scale_of(double low, double high, bool is_log, AxisUnit unit) {
  const bool has_range = is_log ? low < high : low < high && high - low > kLeastRange;
  return has_range ? Scale{low, high, is_log} : scale_of(low, high, is_log, unit);
}

std::vector<Tick> ticks_of(const Scale& scale, AxisUnit unit, int most) {
  return scale.is_log ? log_ticks(scale, unit, most)
                      : linear_ticks(std::min(scale.low, scale.high), std::max(scale.low, scale.high), unit, most);
}

std::string_view name_of(AxisUnit unit) { return unit == AxisUnit::Bytes ? "bytes" : unit == AxisUnit::Seconds ? "seconds" : ""; }

std::string short_value(double value, AxisUnit unit) {
  if (!std::isfinite(value)) return round_trip(value);
  constexpr double kMostBytes = 9e18, kMostSeconds = 1e12;  // that read better with their unit than as a plain number
  if (unit == AxisUnit::Bytes) return std::abs(value) < kMostBytes ? human_bytes(std::llround(value)) : fmt::format("{:.4g} B", value);
  if (unit == AxisUnit::Seconds && !(std::abs(value) < kMostSeconds)) return fmt::format("{:.4g} s", value);
  if (unit == AxisUnit::Seconds) return value < 9.95 ? fmt::format("{:.3g} s", value) : human_duration(value);
  if (std::abs(value) >= 10000) {
    const Shown shown = shown_in(std::abs(value), unit);
    return fmt::format("{:.4g}{}", value / shown.size, shown.name);
  }
  return fmt::format("{:.4g}", value);
}

}  // namespace zerostep
