#pragma once
#include <cstddef>

namespace zerostep {

// Element `index` of a container, by an index that is signed as ours are.
template <typename Container, typename Index>
constexpr decltype(auto) nth(Container&& values, Index index) {
  return values[static_cast<size_t>(index)];
}

}  // namespace zerostep
