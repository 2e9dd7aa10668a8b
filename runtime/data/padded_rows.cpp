#include "runtime/data/padded_rows.h"

#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>

#include <algorithm>

#include "base/nth.h"

namespace zerostep {

PaddedRows padded_rows(const std::vector<std::vector<int32_t>>& rows, int32_t padding) {
  const auto count = std::ssize(rows);
  size_t longest = 0, shortest = SIZE_MAX;
  for (const auto& row : rows) {
    longest = std::max(longest, row.size());
    shortest = std::min(shortest, row.size());
  }
  PaddedRows out;
  const auto length = static_cast<int64_t>(longest);
  out.tokens = at::full({count, length}, padding, at::kLong);
  auto* tokens = out.tokens.mutable_data_ptr<int64_t>();
  for (int64_t i = 0; i < count; ++i) std::copy(nth(rows, i).begin(), nth(rows, i).end(), tokens + i * length);
  if (shortest == longest) return out;
  out.mask = at::zeros({count, length}, at::kBool);
  auto* mask = out.mask.mutable_data_ptr<bool>();
  for (int64_t i = 0; i < count; ++i) std::fill_n(mask + i * length, nth(rows, i).size(), true);
  return out;
}

}  // namespace zerostep
