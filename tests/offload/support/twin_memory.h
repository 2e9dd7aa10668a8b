#pragma once
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "base/device.h"
#include "base/half.h"
#include "base/nth.h"
#include "offload/flat_kernels.h"

namespace zerostep::testing {

// Arrays in memory of a device and, at the same places, in memory of the host, between bytes that nobody may write. The same operations are
// done there by the device's kernels and here by the host's, and the bytes compared: all of them, where they lie and where they do not.
class TwinMemory {
 public:
  TwinMemory(const Device& device, int64_t num_bytes)
      : device_(device),
        stream_(device.stream("kernels")),
        arena_(device.memory("twin", num_bytes)),
        pinned_arena_(device.memory("twin", num_bytes, MemoryKind::PinnedHost)),
        there_(static_cast<std::byte*>(arena_.allocate(num_bytes, "twin"))),
        pinned_(static_cast<std::byte*>(pinned_arena_.allocate(num_bytes, "twin"))),
        size_(num_bytes) {}

  // Forgets all arrays.
  void clear() {
    arrays_.clear();
    used_ = 0;
    here_.clear();
  }
  // Places values of a type `shift` elements behind an aligned place, and returns where.
  template <typename T>
  int64_t place(const std::vector<T>& values, DType type, int64_t shift = 0) {
    constexpr int64_t kGap = 128;
    const int64_t at = round_up(used_, 64) + 64 + shift * static_cast<int64_t>(sizeof(T));
    const auto bytes = static_cast<int64_t>(values.size() * sizeof(T));
    used_ = at + bytes + kGap;
    if (used_ > size_) throw std::length_error("twin memory is too small");
    here_.resize(static_cast<size_t>(used_), std::byte{0xA5});
    std::memcpy(here_.data() + at, values.data(), static_cast<size_t>(bytes));
    arrays_.push_back({at, static_cast<int64_t>(values.size()), type, static_cast<int64_t>(sizeof(T)), 0});
    return at;
  }
  // As sums in fp64, which may differ by `tolerance`.
  int64_t place_sums(const std::vector<double>& values, double tolerance) {
    const int64_t at = place(values, DType::F64);
    arrays_.back().tolerance = tolerance;
    return at;
  }

  // Runs `work` for both. `at(place)` is an address of the memory whose kernels are given.
  using At = std::function<void*(int64_t)>;
  using Work = std::function<void(const FlatKernels&, const At&, const Stream&)>;
  ::testing::AssertionResult is_same_after(const Work& work) {
    const auto bytes = static_cast<int64_t>(here_.size());
    std::memcpy(pinned_, here_.data(), here_.size());
    device_.copy(stream_, there_, pinned_, bytes);
    work(
        kernels_of(device_), [&](int64_t place) { return there_ + place; }, stream_);
    device_.copy(stream_, pinned_, there_, bytes);
    work(
        host_kernels(), [&](int64_t place) { return here_.data() + place; }, Stream::inline_stream());
    stream_.synchronize();
    return compare();
  }
  // What the device's memory had then.
  template <typename T>
  std::vector<T> device_values(int64_t place, int64_t count) const {
    std::vector<T> out(static_cast<size_t>(count));
    std::memcpy(out.data(), pinned_ + place, out.size() * sizeof(T));
    return out;
  }

 private:
  struct Array {
    int64_t at, count;
    DType type;
    int64_t element_bytes;
    double tolerance;
  };

  ::testing::AssertionResult compare() const {
    if (std::memcmp(pinned_, here_.data(), here_.size()) == 0) return ::testing::AssertionSuccess();
    std::vector<std::byte> found(pinned_, pinned_ + here_.size());
    for (size_t a = 0; a < arrays_.size(); ++a) {
      const Array& array = arrays_[a];
      for (int64_t i = 0; i < array.count; ++i) {
        const int64_t place = array.at + i * array.element_bytes;
        std::byte* const mine = found.data() + place;
        const std::byte* const expected = here_.data() + place;
        if (std::memcmp(mine, expected, static_cast<size_t>(array.element_bytes)) == 0) continue;
        if (!is_as_good(array, mine, expected))
          return ::testing::AssertionFailure() << "array " << a << ", element " << i << " of " << array.count << ": "
                                               << text_of(array, mine) << " instead of " << text_of(array, expected);
        std::memcpy(mine, expected, static_cast<size_t>(array.element_bytes));
      }
    }
    if (found == here_) return ::testing::AssertionSuccess();
    const auto at = std::mismatch(found.begin(), found.end(), here_.begin()).first - found.begin();
    return ::testing::AssertionFailure() << "byte " << at << ", outside of every array, is written";
  }
  static double value_of(const Array& array, const std::byte* at) {
    uint16_t half = 0;
    float single = 0;
    double whole = 0;
    if (array.element_bytes == 2) std::memcpy(&half, at, 2);
    if (array.element_bytes == 4) std::memcpy(&single, at, 4);
    if (array.element_bytes == 8) std::memcpy(&whole, at, 8);
    if (array.type == DType::F32) return double{single};
    if (array.type == DType::F64) return whole;
    return double{array.type == DType::BF16 ? fp32_from_bf16(half) : fp32_from_fp16(half)};
  }
  static std::string text_of(const Array& array, const std::byte* at) { return std::to_string(value_of(array, at)); }
  static bool is_as_good(const Array& array, const std::byte* found, const std::byte* expected) {
    const double x = value_of(array, found), y = value_of(array, expected);
    if (std::isnan(x) || std::isnan(y)) return std::isnan(x) && std::isnan(y);
    return std::fabs(x - y) <= array.tolerance * std::max(1.0, std::fabs(y));
  }

  Device device_;
  Stream stream_;
  Arena arena_, pinned_arena_;
  std::byte *there_, *pinned_;
  int64_t size_, used_ = 0;
  std::vector<std::byte> here_;
  std::vector<Array> arrays_;
};

}  // namespace zerostep::testing
