#pragma once
#include <string>
#include <vector>

#include "sharding/communicator.h"

namespace zerostep::test {

// What every backend must do, as bodies that each rank of a group runs. They use EXPECT, and ASSERT only where all ranks decide alike.
struct CommunicatorCase {
  std::string name;
  void (*body)(Communicator world);
};
const std::vector<CommunicatorCase>& communicator_cases();

// What the call throws as a RunError; "" when it throws nothing.
std::string run_error_of(const std::function<void()>& call);

}  // namespace zerostep::test
