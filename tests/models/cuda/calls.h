#pragma once
#include <gtest/gtest.h>

#include <cstdint>

// Those of the fake GPU (tests/fake_gpu/fake_gpu.h), where it is there.
namespace fake_gpu {
[[gnu::weak]] int64_t num_launches();
[[gnu::weak]] int64_t num_host_waits();
}  // namespace fake_gpu

namespace zerostep::testing {

// Launches of kernels since it was made, and that the host has waited for none. Where a GPU is there nobody counts.
class CountedCalls {
 public:
  CountedCalls() : launches_(is_counted() ? fake_gpu::num_launches() : 0), waits_(is_counted() ? fake_gpu::num_host_waits() : 0) {}
  void expect_launches(int64_t expected) const {
    if (!is_counted()) return;
    EXPECT_EQ(fake_gpu::num_launches() - launches_, expected);
    EXPECT_EQ(fake_gpu::num_host_waits(), waits_);
  }

 private:
  static bool is_counted() { return fake_gpu::num_launches != nullptr; }
  int64_t launches_, waits_;
};

}  // namespace zerostep::testing
