#include "runtime/state/copy_runs.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <cstring>
#include <vector>

namespace zerostep {
namespace {

constexpr int64_t kLeastBytes = int64_t{1} << 18;  // a thread's work

}  // namespace

void copy_runs(std::span<const CopiedRun> runs) {
  std::vector<int64_t> ends;  // in the bytes of all runs
  int64_t total = 0;
  for (const CopiedRun& run : runs) ends.push_back(total += run.num_bytes);
  at::parallel_for(0, total, kLeastBytes, [&](int64_t begin, int64_t end) {
    auto i = static_cast<size_t>(std::upper_bound(ends.begin(), ends.end(), begin) - ends.begin());
    for (int64_t at = begin; at < end; ++i) {
      const int64_t first = at - (ends[i] - runs[i].num_bytes), stop = std::min(end, ends[i]);
      std::memcpy(runs[i].to + first, runs[i].from + first, static_cast<size_t>(stop - at));
      at = stop;
    }
  });
}

}  // namespace zerostep
