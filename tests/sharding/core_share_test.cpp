#include "sharding/comm/core_share.h"

#include <gtest/gtest.h>

namespace zerostep {
namespace {

cpu_set_t cores(int begin, int end) {
  cpu_set_t set;
  CPU_ZERO(&set);
  for (int core = begin; core < end; ++core) CPU_SET(core, &set);
  return set;
}

std::vector<int> shares(const std::vector<cpu_set_t>& allowed) {
  std::vector<int> out;
  for (int which = 0; which < static_cast<int>(allowed.size()); ++which) out.push_back(share_of_cores(allowed, which));
  return out;
}

TEST(CoreShare, FreeProcessesShareEqually) {
  EXPECT_EQ(shares({cores(0, 16), cores(0, 16)}), (std::vector<int>{8, 8}));
  EXPECT_EQ(shares(std::vector<cpu_set_t>(49, cores(0, 49 * 3))), std::vector<int>(49, 3));
  EXPECT_EQ(shares(std::vector<cpu_set_t>(3, cores(0, 2))), std::vector<int>(3, 1));
}

TEST(CoreShare, MoreProcessesThanCoresHavePartsOfThem) {
  const std::vector<cpu_set_t> three(3, cores(0, 2));
  EXPECT_DOUBLE_EQ(core_share(three, 1), 2.0 / 3);
  EXPECT_DOUBLE_EQ(core_share({cores(0, 2), cores(0, 2), cores(1, 2)}, 0), 1.0 / 2 + 1.0 / 3);
}

TEST(CoreShare, BoundProcessesKeepWhatIsTheirs) {
  EXPECT_EQ(shares({cores(0, 8), cores(8, 16)}), (std::vector<int>{8, 8}));
  // Two on one socket, one on the other.
  EXPECT_EQ(shares({cores(0, 8), cores(0, 8), cores(8, 16)}), (std::vector<int>{4, 4, 8}));
  EXPECT_EQ(shares({cores(0, 8), cores(0, 4)}), (std::vector<int>{6, 2}));
}

}  // namespace
}  // namespace zerostep
