#include "models/gradient_kernels.h"

#include <ATen/ops/index_put.h>
#include <ATen/ops/sort.h>

#include <algorithm>
#include <numeric>
#include <vector>

#include "base/error.h"
#include "base/simd_targets.h"
#include "models/device_kernels.h"
#include "models/kernel_rows.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "models/gradient_kernels.cpp"
#include <hwy/foreach_target.h>
// The order matters: foreach_target comes first.
#include <hwy/highway.h>

#include "models/row_lanes-inl.h"

HWY_BEFORE_NAMESPACE();
namespace zerostep {
namespace HWY_NAMESPACE {

// One vector of target, or the first `left` values of it, (+)= the sum of up to 8 consecutive rows, as a tree.
template <typename As>
HWY_INLINE void add_vector(const typename As::T* rows, int64_t n, int64_t columns, float* target, int64_t left, bool add) {
  const auto row = [&](int64_t r) HWY_ATTR { return load_first<As>(rows + r * columns, left); };
  VF sum;
  if (n == 8) {
    const VF a = hn::Add(hn::Add(row(0), row(1)), hn::Add(row(2), row(3))), b = hn::Add(hn::Add(row(4), row(5)), hn::Add(row(6), row(7)));
    sum = hn::Add(a, b);
  } else {
    sum = row(0);
    for (int64_t r = 1; r < n; ++r) sum = hn::Add(sum, row(r));
  }
  store_first<AsFloat>(add ? hn::Add(load_first<AsFloat>(target, left), sum) : sum, target, left);
}

template <typename As>
void add_group(const typename As::T* rows, int64_t n, int64_t columns, float* target, bool add) {
  const auto lanes = static_cast<int64_t>(hn::Lanes(F32()));
  int64_t c = 0;
  for (; c + lanes <= columns; c += lanes) add_vector<As>(rows + c, n, columns, target + c, lanes, add);
  if (c < columns) add_vector<As>(rows + c, n, columns, target + c, columns - c, add);
}

template <typename As>
void sum_rows_as(const typename As::T* rows, int64_t n, int64_t columns, float* target, bool add) {
  if (n == 0 && !add) std::fill_n(target, columns, 0.0f);
  for (int64_t r = 0; r < n; r += 8) add_group<As>(rows + r * columns, std::min<int64_t>(8, n - r), columns, target, add || r > 0);
}

// Row r goes to target + place(r).
template <typename As, typename Place>
void add_each_row(const typename As::T* rows, int64_t n, int64_t columns, float* target, bool add, const Place& place) {
  for (int64_t r = 0; r < n; ++r) add_group<As>(rows + r * columns, 1, columns, target + place(r), add);
}

// Rows in `order`, in which equal indices are neighbours, added to a table of their type: each of its rows is rounded once. sums [columns].
template <typename As>
void add_runs(const typename As::T* rows, int64_t n, int64_t columns, const int64_t* indices, const int64_t* order, float* sums,
              typename As::T* table) {
  for (int64_t i = 0; i < n;) {
    const int64_t first = i, index = indices[order[i]];
    for (; i < n && indices[order[i]] == index; ++i) add_group<As>(rows + order[i] * columns, 1, columns, sums, i > first);
    typename As::T* row = table + index * columns;
    for_columns(columns, [&](int64_t j, int64_t left) ZEROSTEP_INLINED {
      store_first<As>(hn::Add(load_first<As>(row + j, left), load_first<AsFloat>(sums + j, left)), row + j, left);
    });
  }
}

void sum_gradient_rows(at::ScalarType type, const void* rows, int64_t n, int64_t columns, float* target, bool add) {
  with_element_type(type, [&](auto as) HWY_ATTR {
    sum_rows_as<decltype(as)>(static_cast<const typename decltype(as)::T*>(rows), n, columns, target, add);
  });
}
void add_gradient_rows(at::ScalarType type, const void* rows, int64_t n, int64_t columns, const int64_t* indices, float* table) {
  with_element_type(type, [&](auto as) HWY_ATTR {
    add_each_row<decltype(as)>(static_cast<const typename decltype(as)::T*>(rows), n, columns, table, true,
                               [&](int64_t r) HWY_ATTR { return indices[r] * columns; });
  });
}
void add_gradient_runs(at::ScalarType type, const void* rows, int64_t n, int64_t columns, const int64_t* indices, const int64_t* order,
                       float* sums, void* table) {
  with_element_type(type, [&](auto as) HWY_ATTR {
    using T = typename decltype(as)::T;
    add_runs<decltype(as)>(static_cast<const T*>(rows), n, columns, indices, order, sums, static_cast<T*>(table));
  });
}
void convert_gradient_rows(at::ScalarType type, const void* values, int64_t n, int64_t columns, float* target, int64_t pitch, bool add) {
  with_element_type(type, [&](auto as) HWY_ATTR {
    add_each_row<decltype(as)>(static_cast<const typename decltype(as)::T*>(values), n, columns, target, add,
                               [&](int64_t r) HWY_ATTR { return r * pitch; });
  });
}

}  // namespace HWY_NAMESPACE
}  // namespace zerostep
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace zerostep {
namespace {

HWY_EXPORT(sum_gradient_rows);
HWY_EXPORT(add_gradient_rows);
HWY_EXPORT(add_gradient_runs);
HWY_EXPORT(convert_gradient_rows);

bool has_kernel(const at::Tensor& values, const at::Tensor& target) { return has_lanes(values) && target.scalar_type() == at::kFloat; }

}  // namespace

void sum_rows(const at::Tensor& rows, const at::Tensor& target, bool add) {
  const int64_t n = rows.size(0), columns = rows.numel() / std::max<int64_t>(1, n);
  if (target.numel() != columns) fail_protocol("[sum_rows] {} columns into {} elements", columns, target.numel());
  if (!has_kernel(rows, target) || !target.is_contiguous()) {
    const at::Tensor sum = rows.view({n, columns}).sum({0}, false, target.scalar_type()).view(target.sizes());
    add ? target.add_(sum) : target.copy_(sum);
    return;
  }
  HWY_DYNAMIC_DISPATCH(sum_gradient_rows)(rows.scalar_type(), rows.const_data_ptr(), n, columns, target.data_ptr<float>(), add);
}

void convert_into(const at::Tensor& values, const at::Tensor& target, bool add) {
  if (values.sizes() != target.sizes()) fail_protocol("[convert_into] {} values into {}", values.numel(), target.numel());
  if (!has_kernel(values, target) || values.dim() != 2 || target.stride(1) != 1) {
    add ? target.add_(values) : target.copy_(values);
    return;
  }
  HWY_DYNAMIC_DISPATCH(convert_gradient_rows)
  (values.scalar_type(), values.const_data_ptr(), values.size(0), values.size(1), target.data_ptr<float>(), target.stride(0), add);
}

void add_rows(const at::Tensor& table, const at::Tensor& indices, const at::Tensor& rows) {
  if (rows.dim() != 2 || table.dim() != 2 || rows.size(1) != table.size(1) || indices.numel() != rows.size(0)) {
    fail_protocol("[add_rows] {} indices and {} values do not fit a table of {}", indices.numel(), rows.numel(), table.numel());
  }
  const bool fits = table.is_contiguous() && indices.is_contiguous() && indices.scalar_type() == at::kLong &&
                    (table.scalar_type() == at::kFloat || table.scalar_type() == rows.scalar_type());
  if (const DeviceKernels* kernels = device_kernels_of(rows); kernels != nullptr && fits && has_plain_rows(rows)) {
    const auto [sorted, order] = at::sort(indices, /*stable=*/true, 0, /*descending=*/false);
    return kernels->add_rows(table, sorted, order, rows);
  }
  const bool narrow = has_lanes(rows) && table.scalar_type() == rows.scalar_type() && rows.scalar_type() != at::kFloat;
  if (!(narrow || has_kernel(rows, table)) || !fits) {
    // Unlike index_add_() it has one order of sums on a GPU. It adds in the table's type: sums of 16 bit are made in fp32.
    const at::Tensor to = table;
    const bool is_wide = table.scalar_type() == at::kFloat || table.scalar_type() == at::kDouble;
    at::Tensor sums = is_wide ? to : to.to(at::kFloat);
    at::index_put_(sums, {indices}, rows.to(sums.scalar_type()), /*accumulate=*/true);
    if (!is_wide) to.copy_(sums);
    return;
  }
  const auto* places = indices.const_data_ptr<int64_t>();
  for (int64_t i = 0; i < indices.numel(); ++i) {
    if (places[i] < 0 || places[i] >= table.size(0))
      fail_protocol("[add_rows] index {} is outside a table of {} rows", places[i], table.size(0));
  }
  if (narrow) {
    std::vector<int64_t> order(static_cast<size_t>(indices.numel()));
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return places[a] < places[b]; });
    std::vector<float> sums(static_cast<size_t>(rows.size(1)));
    HWY_DYNAMIC_DISPATCH(add_gradient_runs)
    (rows.scalar_type(), rows.const_data_ptr(), rows.size(0), rows.size(1), places, order.data(), sums.data(), table.data_ptr());
    return;
  }
  HWY_DYNAMIC_DISPATCH(add_gradient_rows)
  (rows.scalar_type(), rows.const_data_ptr(), rows.size(0), rows.size(1), places, table.data_ptr<float>());
}

}  // namespace zerostep
#endif
