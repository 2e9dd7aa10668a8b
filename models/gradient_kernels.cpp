#include "models/gradient_kernels.h"

#include <algorithm>

#include "base/error.h"
#include "base/simd_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "models/gradient_kernels.cpp"
#include <hwy/foreach_target.h>
// The order matters: foreach_target comes first.
#include <hwy/highway.h>

#include "base/lanes-inl.h"

HWY_BEFORE_NAMESPACE();
namespace zerostep {
namespace HWY_NAMESPACE {

// target (+)= the sum of up to 8 consecutive rows, as a tree.
template <typename As>
void add_group(const typename As::T* rows, int64_t n, int64_t columns, float* target, bool add) {
  const auto lanes = static_cast<int64_t>(hn::Lanes(F32()));
  const auto row = [&](int64_t r) { return rows + r * columns; };
  int64_t c = 0;
  for (; c + lanes <= columns; c += lanes) {
    VF sum;
    if (n == 8) {
      const VF a = hn::Add(hn::Add(As::load(row(0) + c), As::load(row(1) + c)), hn::Add(As::load(row(2) + c), As::load(row(3) + c)));
      const VF b = hn::Add(hn::Add(As::load(row(4) + c), As::load(row(5) + c)), hn::Add(As::load(row(6) + c), As::load(row(7) + c)));
      sum = hn::Add(a, b);
    } else {
      sum = As::load(row(0) + c);
      for (int64_t r = 1; r < n; ++r) sum = hn::Add(sum, As::load(row(r) + c));
    }
    hn::StoreU(add ? hn::Add(hn::LoadU(F32(), target + c), sum) : sum, F32(), target + c);
  }
  for (; c < columns; ++c) {
    float sum = 0;
    const auto at = [&](int64_t r) { return As::value(row(r)[c]); };
    if (n == 8) {
      sum = ((at(0) + at(1)) + (at(2) + at(3))) + ((at(4) + at(5)) + (at(6) + at(7)));
    } else {
      sum = at(0);
      for (int64_t r = 1; r < n; ++r) sum += at(r);
    }
    target[c] = add ? target[c] + sum : sum;
  }
}

template <typename As>
void sum_rows(const void* rows, int64_t n, int64_t columns, float* target, bool add) {
  const auto* from = static_cast<const typename As::T*>(rows);
  if (n == 0 && !add) std::fill_n(target, columns, 0.0f);
  for (int64_t r = 0; r < n; r += 8) {
    add_group<As>(from + r * columns, std::min<int64_t>(8, n - r), columns, target, add || r > 0);
  }
}

template <typename As>
void add_rows(const void* rows, int64_t n, int64_t columns, const int64_t* indices, float* table) {
  const auto* from = static_cast<const typename As::T*>(rows);
  for (int64_t r = 0; r < n; ++r) add_group<As>(from + r * columns, 1, columns, table + indices[r] * columns, true);
}

template <typename As>
void convert_rows(const void* values, int64_t n, int64_t columns, float* target, int64_t pitch, bool add) {
  const auto* from = static_cast<const typename As::T*>(values);
  for (int64_t r = 0; r < n; ++r) add_group<As>(from + r * columns, 1, columns, target + r * pitch, add);
}

void sum_rows_f32(const void* r, int64_t n, int64_t c, float* t, bool a) { sum_rows<AsFloat>(r, n, c, t, a); }
void sum_rows_bf16(const void* r, int64_t n, int64_t c, float* t, bool a) { sum_rows<AsBFloat16>(r, n, c, t, a); }
void sum_rows_f16(const void* r, int64_t n, int64_t c, float* t, bool a) { sum_rows<AsHalf>(r, n, c, t, a); }
void add_rows_f32(const void* r, int64_t n, int64_t c, const int64_t* i, float* t) { add_rows<AsFloat>(r, n, c, i, t); }
void add_rows_bf16(const void* r, int64_t n, int64_t c, const int64_t* i, float* t) { add_rows<AsBFloat16>(r, n, c, i, t); }
void add_rows_f16(const void* r, int64_t n, int64_t c, const int64_t* i, float* t) { add_rows<AsHalf>(r, n, c, i, t); }
void convert_rows_f32(const void* v, int64_t n, int64_t c, float* t, int64_t p, bool a) { convert_rows<AsFloat>(v, n, c, t, p, a); }
void convert_rows_bf16(const void* v, int64_t n, int64_t c, float* t, int64_t p, bool a) { convert_rows<AsBFloat16>(v, n, c, t, p, a); }
void convert_rows_f16(const void* v, int64_t n, int64_t c, float* t, int64_t p, bool a) { convert_rows<AsHalf>(v, n, c, t, p, a); }

}  // namespace HWY_NAMESPACE
}  // namespace zerostep
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace zerostep {
namespace {

HWY_EXPORT(sum_rows_f32);
HWY_EXPORT(sum_rows_bf16);
HWY_EXPORT(sum_rows_f16);
HWY_EXPORT(add_rows_f32);
HWY_EXPORT(add_rows_bf16);
HWY_EXPORT(add_rows_f16);
HWY_EXPORT(convert_rows_f32);
HWY_EXPORT(convert_rows_bf16);
HWY_EXPORT(convert_rows_f16);

bool has_kernel(const at::Tensor& values, const at::Tensor& target) {
  const auto type = values.scalar_type();
  return values.device().is_cpu() && values.is_contiguous() && target.scalar_type() == at::kFloat &&
         (type == at::kFloat || type == at::kBFloat16 || type == at::kHalf);
}

}  // namespace

void sum_rows(const at::Tensor& rows, const at::Tensor& target, bool add) {
  const int64_t n = rows.size(0), columns = rows.numel() / std::max<int64_t>(1, n);
  if (target.numel() != columns) fail_protocol("[sum_rows] {} columns into {} elements", columns, target.numel());
  if (!has_kernel(rows, target) || !target.is_contiguous()) {
    const at::Tensor sum = rows.view({n, columns}).sum({0}, false, target.scalar_type()).view(target.sizes());
    add ? target.add_(sum) : target.copy_(sum);
    return;
  }
  const void* from = rows.const_data_ptr();
  auto* to = target.data_ptr<float>();
  switch (rows.scalar_type()) {
    case at::kBFloat16:
      HWY_DYNAMIC_DISPATCH(sum_rows_bf16)(from, n, columns, to, add);
      return;
    case at::kHalf:
      HWY_DYNAMIC_DISPATCH(sum_rows_f16)(from, n, columns, to, add);
      return;
    default:
      HWY_DYNAMIC_DISPATCH(sum_rows_f32)(from, n, columns, to, add);
      return;
  }
}

void convert_into(const at::Tensor& values, const at::Tensor& target, bool add) {
  if (values.sizes() != target.sizes()) fail_protocol("[convert_into] {} values into {}", values.numel(), target.numel());
  if (!has_kernel(values, target) || values.dim() != 2 || target.stride(1) != 1) {
    add ? target.add_(values) : target.copy_(values);
    return;
  }
  const void* from = values.const_data_ptr();
  auto* to = target.data_ptr<float>();
  const int64_t n = values.size(0), columns = values.size(1), pitch = target.stride(0);
  switch (values.scalar_type()) {
    case at::kBFloat16:
      HWY_DYNAMIC_DISPATCH(convert_rows_bf16)(from, n, columns, to, pitch, add);
      return;
    case at::kHalf:
      HWY_DYNAMIC_DISPATCH(convert_rows_f16)(from, n, columns, to, pitch, add);
      return;
    default:
      HWY_DYNAMIC_DISPATCH(convert_rows_f32)(from, n, columns, to, pitch, add);
      return;
  }
}

void add_rows(const at::Tensor& table, const at::Tensor& indices, const at::Tensor& rows) {
  if (rows.dim() != 2 || table.dim() != 2 || rows.size(1) != table.size(1) || indices.numel() != rows.size(0)) {
    fail_protocol("[add_rows] {} indices and {} values do not fit a table of {}", indices.numel(), rows.numel(), table.numel());
  }
  if (!has_kernel(rows, table) || !table.is_contiguous() || !indices.is_contiguous() || indices.scalar_type() != at::kLong) {
    at::Tensor to = table;
    to.index_add_(0, indices, rows.to(table.scalar_type()));
    return;
  }
  const auto* places = indices.const_data_ptr<int64_t>();
  for (int64_t i = 0; i < indices.numel(); ++i) {
    if (places[i] < 0 || places[i] >= table.size(0))
      fail_protocol("[add_rows] index {} is outside a table of {} rows", places[i], table.size(0));
  }
  const void* from = rows.const_data_ptr();
  auto* to = table.data_ptr<float>();
  const int64_t n = rows.size(0), columns = rows.size(1);
  switch (rows.scalar_type()) {
    case at::kBFloat16:
      HWY_DYNAMIC_DISPATCH(add_rows_bf16)(from, n, columns, places, to);
      return;
    case at::kHalf:
      HWY_DYNAMIC_DISPATCH(add_rows_f16)(from, n, columns, places, to);
      return;
    default:
      HWY_DYNAMIC_DISPATCH(add_rows_f32)(from, n, columns, places, to);
      return;
  }
}

}  // namespace zerostep
#endif
