#include <gtest/gtest.h>

#include <cstdlib>
#include <set>
#include <string>

#include "offload/host_optimizer.h"

namespace zerostep {
namespace {

// The tests of other processors are what they say: kernels run at most with the instruction set that is asked for.
TEST(KernelTargets, AreThoseThatTheEnvironmentAllows) {
  const char* highest = std::getenv("ZEROSTEP_TEST_KERNELS");
  if (highest == nullptr) highest = "";
  const std::string limit = highest, found = host_optimizer_target();
  std::set<std::string> allowed = {"SSE2", "EMU128", "SCALAR"};
  if (limit != "none") allowed.insert("AVX2");
  if (limit != "none" && limit != "avx2") allowed.insert("AVX3");
  if (limit.empty()) allowed.insert({"AVX3_DL", "AVX3_ZEN4", "AVX3_SPR"});
  EXPECT_TRUE(allowed.count(found) == 1) << found << " with ZEROSTEP_TEST_KERNELS='" << limit << "'";
}

}  // namespace
}  // namespace zerostep
