#include "experiments/text/live_lines.h"

#include <fmt/format.h>

namespace zerostep {

std::string LiveLines::draw(const std::vector<std::string>& lines) {
  std::string out = drawn_ > 0 ? fmt::format("\x1b[{}F", drawn_) : "";
  for (const std::string& line : lines) out += line + "\x1b[K\n";
  drawn_ = lines.size();
  return out + "\x1b[J";
}

std::string LiveLines::clear() {
  const std::string out = drawn_ > 0 ? fmt::format("\x1b[{}F\x1b[J", drawn_) : "";
  drawn_ = 0;
  return out;
}

}  // namespace zerostep
