#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace zerostep {

// Rows of tokens as one tensor [rows, longest] int64, filled up with `padding` at the end; and the mask of what is no padding, bool,
// undefined where nothing is padded. At least one row, none of them empty.
struct PaddedRows {
  at::Tensor tokens, mask;
};
PaddedRows padded_rows(const std::vector<std::vector<int32_t>>& rows, int32_t padding);

}  // namespace zerostep
