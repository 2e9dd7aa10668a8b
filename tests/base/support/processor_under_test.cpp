#include "tests/base/any_device.h"

namespace zerostep::testing {

std::vector<DeviceCase> devices_under_test() { return {{"cpu", Device::cpu}}; }

}  // namespace zerostep::testing
