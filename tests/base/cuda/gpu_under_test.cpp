#include "tests/base/any_device.h"

namespace zerostep::testing {

std::vector<DeviceCase> devices_under_test() {
  return {{"cuda", [] { return Device::cuda(0); }}};
}

}  // namespace zerostep::testing
