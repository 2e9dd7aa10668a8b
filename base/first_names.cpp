#include "base/first_names.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

namespace zerostep {

std::string first_names(const std::vector<std::string>& names) {
  constexpr size_t kTold = 5;
  const std::vector<std::string> first(names.begin(), names.begin() + static_cast<ptrdiff_t>(std::min(kTold, names.size())));
  const std::string text = fmt::format("{}", fmt::join(first, ", "));
  return names.size() > kTold ? fmt::format("{} and {} more", text, names.size() - kTold) : text;
}

}  // namespace zerostep
