#include <cstdlib>
#include <optional>

#include "models/kernel_rows.h"

// With ZEROSTEP_TEST_WITHOUT_KERNELS in the environment units run on the CPU as on a device that has no kernels of ours. Linked into the
// tests of models.

namespace {

[[maybe_unused]] const bool are_left_out = [] {
  static std::optional<zerostep::WithoutKernels> left_out;
  if (std::getenv("ZEROSTEP_TEST_WITHOUT_KERNELS") != nullptr) left_out.emplace();
  return left_out.has_value();
}();

}  // namespace
