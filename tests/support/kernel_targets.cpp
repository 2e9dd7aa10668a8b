#include <hwy/targets.h>

#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

// ZEROSTEP_TEST_KERNELS=avx3|avx2|none holds Highway's kernels to an instruction set and what is below it, before the first of them runs,
// as ATEN_CPU_CAPABILITY and ONEDNN_MAX_CPU_ISA do with LibTorch's. Linked into every test program.

namespace {

int64_t disabled_targets(std::string_view highest) {
  // Better targets have lower bits.
  if (highest == "avx3") return HWY_AVX3 - 1;
  if (highest == "avx2") return HWY_AVX2 - 1;
  if (highest == "none") return 2 * HWY_AVX2 - 1;
  std::fprintf(stderr, "ZEROSTEP_TEST_KERNELS is '%s': expected avx3, avx2 or none\n", std::string(highest).c_str());
  std::exit(2);
}

[[maybe_unused]] const bool are_limited = [] {
  const char* highest = std::getenv("ZEROSTEP_TEST_KERNELS");
  if (highest == nullptr) return false;
  hwy::DisableTargets(disabled_targets(highest));
  return true;
}();

}  // namespace
