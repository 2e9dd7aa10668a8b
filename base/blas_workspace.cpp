#include "base/blas_workspace.h"

#include <charconv>
#include <cstdlib>

#include "base/error.h"

namespace zerostep {

int64_t blas_workspace_bytes(std::string_view says) {
  constexpr int64_t kMostKib = int64_t{1} << 30;  // more than any GPU has
  int64_t kib = 0;
  const char *at = says.data(), *const end = at + says.size();
  const auto number = [&](int64_t& out) {
    if (at == end || *at != ':') return false;
    const auto [next, error] = std::from_chars(at + 1, end, out);
    at = next;
    return error == std::errc() && out >= 0 && out <= kMostKib;
  };
  do {
    int64_t size = 0, count = 0;
    if (!number(size) || !number(count) || (size > 0 && count > (kMostKib - kib) / size))
      fail_input("{} is '{}'; expected :KIB:COUNT, once or several times, as {}", kBlasWorkspaceVariable, says, kBlasWorkspace);
    kib += size * count;
  } while (at != end);
  return kib << 10;
}

int64_t blas_workspace_bytes() {
  const char* says = std::getenv(kBlasWorkspaceVariable);
  return blas_workspace_bytes(says == nullptr ? kBlasWorkspace : says);
}

void set_blas_workspace() { ::setenv(kBlasWorkspaceVariable, kBlasWorkspace, 0); }

}  // namespace zerostep
