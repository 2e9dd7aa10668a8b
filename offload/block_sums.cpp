#include "offload/block_sums.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <vector>

namespace zerostep {
namespace {

constexpr int64_t kBlocksTogether = 256;  // bounds the memory of their partial sums

}  // namespace

void add_block_sums(int64_t elements, std::span<double> sums, const AddPartialSums& add_partial) {
  const int64_t blocks = (elements + kSumBlockElements - 1) / kSumBlockElements;
  std::vector<double> partial(static_cast<size_t>(std::min(blocks, kBlocksTogether)) * sums.size());
  const auto sums_of_block = [&](int64_t b) { return std::span(partial).subspan(static_cast<size_t>(b) * sums.size(), sums.size()); };
  for (int64_t wave = 0; wave < blocks; wave += kBlocksTogether) {
    const int64_t here = std::min(kBlocksTogether, blocks - wave);
    std::fill(partial.begin(), partial.end(), 0.0);
    at::parallel_for(0, here, 1, [&](int64_t first, int64_t last) {
      for (int64_t b = first; b < last; ++b) {
        const int64_t begin = (wave + b) * kSumBlockElements;
        add_partial(begin, std::min(kSumBlockElements, elements - begin), sums_of_block(b));
      }
    });
    for (int64_t b = 0; b < here; ++b)
      for (size_t i = 0; i < sums.size(); ++i) sums[i] += sums_of_block(b)[i];
  }
}

}  // namespace zerostep
