#include <ATen/Context.h>
#include <gtest/gtest.h>

#include "base/device.h"

// LibTorch on the GPU that the tests of this program run on, as a run has it.
namespace zerostep {
namespace {

class GpuOfTests final : public ::testing::Environment {
 public:
  void SetUp() override {
    Device::cuda(0).load_operators();
    at::globalContext().lazyInitDevice(at::kCUDA);
  }
};
const auto* const kGpuOfTests = ::testing::AddGlobalTestEnvironment(new GpuOfTests);

}  // namespace
}  // namespace zerostep
