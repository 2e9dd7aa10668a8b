#include "experiments/text/blocks.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include "base/nth.h"

namespace zerostep {
namespace {

// 0 to 8 eighths of a character's height.
constexpr const char* kBlocks[] = {" ", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
constexpr int kEighths = 8;

struct Range {
  double low = std::numeric_limits<double>::infinity(), high = -std::numeric_limits<double>::infinity();
};
Range range_of(std::span<const double> values) {
  Range out;
  for (double v : values)
    if (std::isfinite(v)) out = {std::min(out.low, v), std::max(out.high, v)};
  return out;
}

// From `least` to `most`; in the middle where all values are alike.
int eighths_of(double value, const Range& range, int least, int most) {
  const double share = range.high > range.low ? (value - range.low) / (range.high - range.low) : 0.5;
  return least + static_cast<int>(std::lround(share * (most - least)));
}

// Mean of the finite values; NaN where there is none.
double mean_of(std::span<const double> values) {
  double sum = 0;
  int64_t count = 0;
  for (double v : values)
    if (std::isfinite(v)) {
      sum += v;
      ++count;
    }
  return count > 0 ? sum / static_cast<double>(count) : std::numeric_limits<double>::quiet_NaN();
}

}  // namespace

std::string sparkline(std::span<const double> values, int width) {
  const size_t parts = std::min(values.size(), static_cast<size_t>(std::max(0, width)));
  std::vector<double> means;
  for (size_t i = 0; i < parts; ++i) {
    const size_t begin = i * values.size() / parts, end = (i + 1) * values.size() / parts;
    means.push_back(mean_of(values.subspan(begin, end - begin)));
  }
  const Range range = range_of(means);
  std::string out;
  for (double v : means) out += std::isfinite(v) ? nth(kBlocks, eighths_of(v, range, 1, kEighths)) : " ";
  return out;
}

std::vector<std::string> columns_of_blocks(std::span<const double> values, int height, int column_width) {
  const Range range = range_of(values);
  std::vector<std::string> out;
  for (int line = height - 1; line >= 0; --line) {
    std::string text;
    for (double v : values) {
      const int full = std::isfinite(v) ? eighths_of(v, range, 1, kEighths * height) : 0;
      const char* block = nth(kBlocks, std::clamp(full - line * kEighths, 0, kEighths));
      for (int i = 0; i < column_width; ++i) text += block;
      text += ' ';
    }
    out.push_back(text);
  }
  return out;
}

}  // namespace zerostep
