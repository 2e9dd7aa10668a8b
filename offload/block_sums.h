#pragma once
#include <cstdint>
#include <functional>
#include <span>

namespace zerostep {

constexpr int64_t kSumBlockElements = int64_t{1} << 14;

// Adds to `sums` what add_partial(begin, count, partial) adds to its partial sums of elements [begin, begin + count), over all of [0,
// elements). LibTorch's threads share out blocks of kSumBlockElements, and the partial sums of the blocks are added in their order: the
// bits do not depend on the threads.
using AddPartialSums = std::function<void(int64_t begin, int64_t count, std::span<double> partial)>;
void add_block_sums(int64_t elements, std::span<double> sums, const AddPartialSums& add_partial);

}  // namespace zerostep
