#pragma once
#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "base/device.h"

namespace zerostep::testing {

// A kind of device, made anew for each test.
struct DeviceCase {
  std::string name;
  std::function<Device()> make;
};
// Those of a test program: the processor in one, GPUs in another.
std::vector<DeviceCase> devices_under_test();

// What holds for every device.
class AnyDevice : public ::testing::TestWithParam<DeviceCase> {
 protected:
  Device device_ = GetParam().make();
};

inline std::string name_of_case(const ::testing::TestParamInfo<DeviceCase>& info) { return info.param.name; }

}  // namespace zerostep::testing
