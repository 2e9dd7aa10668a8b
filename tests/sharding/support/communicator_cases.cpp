#include "tests/sharding/support/communicator_cases.h"

namespace zerostep::test {

const std::vector<CommunicatorCase>& communicator_cases() {
  static const std::vector<CommunicatorCase> cases = [] {
    std::vector<CommunicatorCase> all;
    for (const auto& part : {gather_cases(), reduce_cases(), exchange_cases(), mixed_cases(), group_cases(), failure_cases()})
      all.insert(all.end(), part.begin(), part.end());
    return all;
  }();
  return cases;
}

}  // namespace zerostep::test
