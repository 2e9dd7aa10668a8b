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

// Its parts, a file each.
std::vector<CommunicatorCase> gather_cases();
std::vector<CommunicatorCase> reduce_cases();
std::vector<CommunicatorCase> exchange_cases();
std::vector<CommunicatorCase> mixed_cases();  // several operations, segments or kinds of memory at once
std::vector<CommunicatorCase> group_cases();
std::vector<CommunicatorCase> failure_cases();

}  // namespace zerostep::test
