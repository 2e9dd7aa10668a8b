#pragma once
#include <vector>

#include "runtime/plan/plan.h"

namespace zerostep {

// Collectives smaller than this cost latency, not bandwidth: small units are reduced and gathered together up to it, within the bucket
// limits.
constexpr int64_t kCoalesceElements = int64_t{1} << 20;

// Collectives over groups of at most `limit` elements each, but at least one slice.
std::vector<std::vector<CollectivePart>> split_by_bucket(const ModelLayout& layout, const std::vector<int>& groups, int64_t limit);

}  // namespace zerostep
