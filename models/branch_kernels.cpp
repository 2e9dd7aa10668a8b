#include "models/branch_kernels.h"

#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/bmm.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/native_layer_norm.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "base/simd_targets.h"
#include "models/device_kernels.h"
#include "models/kernel_rows.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "models/branch_kernels.cpp"
#include <hwy/foreach_target.h>
// The order matters: foreach_target comes first.
#include <hwy/highway.h>

#include "models/row_lanes-inl.h"

#ifndef ZEROSTEP_MODELS_BRANCH_KERNELS_
#define ZEROSTEP_MODELS_BRANCH_KERNELS_
namespace zerostep {

// Pointers of one kernel: a block of consecutive rows of one branch, whose vectors and factors these are.
struct NormRows {
  const void* rows;
  const float *gain, *offset;
  void* out;
  int64_t count, width;
  float epsilon;
};
struct ProjectRows {
  const void* rows;
  const float* factor;
  float* out;
  int64_t count, width, rank;
};
struct SumRows {
  const void* base;
  const float *offset, *coefficients, *factor;
  void* out;
  int64_t count, width, rank;
};

}  // namespace zerostep
#endif

HWY_BEFORE_NAMESPACE();
namespace zerostep {
namespace HWY_NAMESPACE {

constexpr int kTogether = 4;  // rows that share what is read of their branch

template <typename As>
void norm_rows(const NormRows& a) {
  using T = typename As::T;
  const F32 d;
  const auto width = static_cast<float>(a.width);
  for (int64_t i = 0; i < a.count; ++i) {
    const T* x = static_cast<const T*>(a.rows) + i * a.width;
    T* y = static_cast<T*>(a.out) + i * a.width;
    VF sum = hn::Zero(d), squares = hn::Zero(d);
    for_columns(a.width, [&](int64_t j, int64_t n) ZEROSTEP_INLINED { sum = hn::Add(sum, load_first<As>(x + j, n)); });
    const VF mean = hn::Set(d, total(sum) / width);
    for_columns(a.width, [&](int64_t j, int64_t n) ZEROSTEP_INLINED {
      const VF centred = first_lanes(hn::Sub(load_first<As>(x + j, n), mean), n);
      squares = hn::MulAdd(centred, centred, squares);
    });
    const VF scale = hn::Set(d, 1.0f / std::sqrt(total(squares) / width + a.epsilon));
    for_columns(a.width, [&](int64_t j, int64_t n) ZEROSTEP_INLINED {
      const VF normal = hn::Mul(hn::Sub(load_first<As>(x + j, n), mean), scale);
      store_first<As>(hn::MulAdd(normal, load_first<AsFloat>(a.gain + j, n), load_first<AsFloat>(a.offset + j, n)), y + j, n);
    });
  }
}

// kRows rows by kRanks rows of the factor.
template <typename As, int kRows, int kRanks>
HWY_INLINE void project_tile(const ProjectRows& a, int64_t row, int64_t k) {
  const auto* x = static_cast<const typename As::T*>(a.rows) + row * a.width;
  const float* factor = a.factor + k * a.width;
  VF sum[kRows][kRanks];
  for (auto& row_sums : sum) {
    for (VF& s : row_sums) s = hn::Zero(F32());
  }
  for_columns(a.width, [&](int64_t j, int64_t n) ZEROSTEP_INLINED {
    VF f[kRanks];
    for (int c = 0; c < kRanks; ++c) f[c] = load_first<AsFloat>(factor + c * a.width + j, n);
    for (int r = 0; r < kRows; ++r) {
      const VF v = load_first<As>(x + r * a.width + j, n);
      for (int c = 0; c < kRanks; ++c) sum[r][c] = hn::MulAdd(v, f[c], sum[r][c]);
    }
  });
  for (int r = 0; r < kRows; ++r) {
    for (int c = 0; c < kRanks; ++c) a.out[(row + r) * a.rank + k + c] = total(sum[r][c]);
  }
}
template <typename As, int kRows>
HWY_INLINE void project_some(const ProjectRows& a, int64_t row) {
  int64_t k = 0;
  for (; k + 2 <= a.rank; k += 2) project_tile<As, kRows, 2>(a, row, k);
  if (k < a.rank) project_tile<As, kRows, 1>(a, row, k);
}
template <typename As>
void project_rows(const ProjectRows& a) {
  int64_t row = 0;
  for (; row + kTogether <= a.count; row += kTogether) project_some<As, kTogether>(a, row);
  for (; row < a.count; ++row) project_some<As, 1>(a, row);
}

template <typename As, int kRows>
HWY_INLINE void sum_some(const SumRows& a, int64_t row) {
  using T = typename As::T;
  const F32 d;
  const T* base = a.base == nullptr ? nullptr : static_cast<const T*>(a.base) + row * a.width;
  const float* coefficients = a.coefficients + row * a.rank;
  T* out = static_cast<T*>(a.out) + row * a.width;
  for_columns(a.width, [&](int64_t j, int64_t n) ZEROSTEP_INLINED {
    VF sum[kRows];
    const VF start = a.offset == nullptr ? hn::Zero(d) : load_first<AsFloat>(a.offset + j, n);
    for (int r = 0; r < kRows; ++r) sum[r] = base == nullptr ? start : hn::Add(start, load_first<As>(base + r * a.width + j, n));
    for (int64_t k = 0; k < a.rank; ++k) {
      const VF factor = load_first<AsFloat>(a.factor + k * a.width + j, n);
      for (int r = 0; r < kRows; ++r) sum[r] = hn::MulAdd(hn::Set(d, coefficients[r * a.rank + k]), factor, sum[r]);
    }
    for (int r = 0; r < kRows; ++r) store_first<As>(sum[r], out + r * a.width + j, n);
  });
}
template <typename As>
void sum_rows(const SumRows& a) {
  int64_t row = 0;
  for (; row + kTogether <= a.count; row += kTogether) sum_some<As, kTogether>(a, row);
  for (; row < a.count; ++row) sum_some<As, 1>(a, row);
}

void branch_norm_rows(at::ScalarType type, const NormRows& a) {
  with_element_type(type, [&](auto as) HWY_ATTR { norm_rows<decltype(as)>(a); });
}
void branch_project_rows(at::ScalarType type, const ProjectRows& a) {
  with_element_type(type, [&](auto as) HWY_ATTR { project_rows<decltype(as)>(a); });
}
void branch_sum_rows(at::ScalarType type, const SumRows& a) {
  with_element_type(type, [&](auto as) HWY_ATTR { sum_rows<decltype(as)>(a); });
}

}  // namespace HWY_NAMESPACE
}  // namespace zerostep
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace zerostep {
namespace {

HWY_EXPORT(branch_norm_rows);
HWY_EXPORT(branch_project_rows);
HWY_EXPORT(branch_sum_rows);

void check_rows(const char* kernel, const at::Tensor& rows, int64_t branches) {
  if (!has_plain_rows(rows)) fail_protocol("[{}] expected contiguous rows of fp32, bf16 or fp16", kernel);
  if (rows.size(0) % branches != 0) fail_protocol("[{}] {} rows do not divide by {} branches", kernel, rows.size(0), branches);
}

// A vector or factor [branches or 1, ...] of fp32, by branch.
class OfBranch {
 public:
  OfBranch(const char* kernel, const at::Tensor& values, int64_t branches, int64_t elements) {
    if (!values.defined()) return;
    const bool one = values.size(0) == 1;
    if (values.scalar_type() != at::kFloat || !values.is_contiguous() || values.numel() != elements * values.size(0) ||
        (!one && values.size(0) != branches)) {
      fail_protocol("[{}] expected contiguous fp32 of {} times {} elements, found {} times {}", kernel, branches, elements, values.size(0),
                    values.numel() / std::max<int64_t>(1, values.size(0)));
    }
    data_ = values.const_data_ptr<float>();
    stride_ = one ? 0 : elements;
  }
  const float* operator[](int64_t branch) const { return data_ == nullptr ? nullptr : data_ + branch * stride_; }

 private:
  const float* data_ = nullptr;
  int64_t stride_ = 0;
};

// Calls f(branch, first row, count) over all rows, in parallel; no call spans two branches.
template <class F>
void for_branch_rows(int64_t rows, int64_t branches, int64_t width, const F& f) {
  const int64_t each = rows / branches;
  at::parallel_for(0, rows, std::max<int64_t>(1, kGrainElements / width), [&](int64_t begin, int64_t end) {
    while (begin < end) {
      const int64_t branch = begin / each, count = std::min(end, (branch + 1) * each) - begin;
      f(branch, begin, count);
      begin += count;
    }
  });
}

at::Tensor by_branch(const at::Tensor& rows, int64_t branches) { return rows.view({branches, rows.size(0) / branches, rows.size(1)}); }

// Where LibTorch's operations do a kernel's work on rows of this width: calls f(rows [branches, count, ...] of `out`, first row of each
// branch, count).
template <class F>
void for_branch_parts(const at::Tensor& out, int64_t branches, int64_t width, const F& f) {
  const at::NoGradGuard no_grad;
  const at::Tensor rows = by_branch(out, branches);
  for_parts(rows.size(1), branches * width, [&](int64_t first, int64_t count) { f(rows.narrow(1, first, count), first, count); });
}

}  // namespace

at::Tensor branch_norm(const at::Tensor& rows, const at::Tensor& gain, const at::Tensor& offset, double epsilon) {
  const int64_t width = rows.size(1), branches = std::max(gain.size(0), offset.size(0));
  check_rows("branch norm", rows, branches);
  const OfBranch gains("branch norm", gain, branches, width), offsets("branch norm", offset, branches, width);
  const auto added = static_cast<float>(epsilon);
  at::Tensor out = at::empty_like(rows);
  if (const DeviceKernels* kernels = device_kernels_of(rows)) {
    kernels->layer_norm(rows, gain, offset, epsilon, out, {}, {});
    return out;
  }
  if (!has_kernels(rows)) {
    for_branch_parts(out, branches, width, [&](const at::Tensor& part, int64_t first, int64_t count) {
      const at::Tensor x = by_branch(rows, branches).narrow(1, first, count).to(at::kFloat);
      at::Tensor y = std::get<0>(at::native_layer_norm(x, {width}, {}, {}, epsilon));
      part.copy_(y.mul_(gain.unsqueeze(1)).add_(offset.unsqueeze(1)));
    });
    return out;
  }
  for_branch_rows(rows.size(0), branches, width, [&](int64_t branch, int64_t row, int64_t count) {
    const NormRows a{element_of(rows, row * width), gains[branch], offsets[branch], element_of(out, row * width), count, width, added};
    HWY_DYNAMIC_DISPATCH(branch_norm_rows)(rows.scalar_type(), a);
  });
  return out;
}

at::Tensor branch_project(const at::Tensor& rows, const at::Tensor& factor) {
  const int64_t width = rows.size(1), branches = factor.size(0), rank = factor.size(1);
  check_rows("branch project", rows, branches);
  const OfBranch factors("branch project", factor, branches, rank * width);
  at::Tensor out = at::empty({rows.size(0), rank}, rows.options().dtype(at::kFloat));
  if (const DeviceKernels* kernels = device_kernels_of(rows)) {
    kernels->branch_project(rows, factor, out);
    return out;
  }
  if (!has_kernels(rows)) {
    for_branch_parts(out, branches, width, [&](const at::Tensor& part, int64_t first, int64_t count) {
      part.copy_(at::bmm(by_branch(rows, branches).narrow(1, first, count).to(at::kFloat), factor.transpose(1, 2)));
    });
    return out;
  }
  for_branch_rows(rows.size(0), branches, width, [&](int64_t branch, int64_t row, int64_t count) {
    const ProjectRows a{element_of(rows, row * width), factors[branch], out.data_ptr<float>() + row * rank, count, width, rank};
    HWY_DYNAMIC_DISPATCH(branch_project_rows)(rows.scalar_type(), a);
  });
  return out;
}

at::Tensor branch_sum(const BranchSum& sum, int64_t rows, int64_t width, int64_t branches, at::ScalarType type) {
  const int64_t rank = sum.factor.defined() ? sum.factor.size(1) : 0, each = rows / branches;
  const OfBranch offsets("branch sum", sum.offset, branches, width), factors("branch sum", sum.factor, branches, rank * width),
      coefficients("branch sum", sum.coefficients, rows, rank);
  const at::Tensor& any = sum.base.defined() ? sum.base : sum.offset.defined() ? sum.offset : sum.coefficients;
  if (!any.defined()) fail_protocol("[branch sum] expected a base, an offset or factors, found none of them");
  at::Tensor out = at::empty({rows, width}, any.options().dtype(type));
  check_rows("branch sum", out, branches);
  const bool shared = sum.base.defined() && sum.base.size(0) == each;
  if (sum.base.defined() &&
      (sum.base.scalar_type() != type || !sum.base.is_contiguous() || sum.base.size(1) != width || (!shared && sum.base.size(0) != rows))) {
    fail_protocol("[branch sum] expected a base of {} or {} rows of {}, of the sum's type", each, rows, width);
  }
  if (const DeviceKernels* kernels = device_kernels_of(out)) {
    kernels->branch_sum(sum, branches, out);
    return out;
  }
  if (!has_kernels(out)) {
    for_branch_parts(out, branches, width, [&](const at::Tensor& part, int64_t first, int64_t count) {
      const auto rows_of_part = [&](const at::Tensor& t, int64_t owners) { return by_branch(t, owners).narrow(1, first, count); };
      at::Tensor total = sum.factor.defined() ? at::bmm(rows_of_part(sum.coefficients, branches), sum.factor)
                                              : at::zeros(part.sizes(), out.options().dtype(at::kFloat));
      if (sum.offset.defined()) total.add_(sum.offset.unsqueeze(1));
      if (sum.base.defined()) total.add_(rows_of_part(sum.base, shared ? 1 : branches));
      part.copy_(total);
    });
    return out;
  }
  for_branch_rows(rows, branches, width, [&](int64_t branch, int64_t row, int64_t count) {
    const void* base = sum.base.defined() ? element_of(sum.base, (shared ? row - branch * each : row) * width) : nullptr;
    const SumRows a{base, offsets[branch], coefficients[row], factors[branch], element_of(out, row * width), count, width, rank};
    HWY_DYNAMIC_DISPATCH(branch_sum_rows)(type, a);
  });
  return out;
}

}  // namespace zerostep
#endif
