#pragma once
#include <gtest/gtest.h>

#include <cstdlib>

#include "fake_gpu/fake_gpu.h"
#include "tests/runtime/support/zeroth_order_case.h"

namespace zerostep::testing {

inline const char* name_of(EngineSetup::Between between) {
  constexpr const char* kNames[] = {"NCCL", "threads on one GPU", "staged"};
  return kNames[static_cast<int>(between)];
}

// How often the thread of a rank, which launches everything, waits for its GPU in a step.
// Once, to read the scalars: loss, norm and what tells of an overflow, or the losses of queries. The ranks agree on them afterwards, and
// all else is ordered by events. An instructed step has three: the norm of the gradient and its products with the noise make the
// directions, whose losses make the estimate, whose product with the gradient is a column of metrics. With directions of the largest
// entries three more come before the first forward: the two histograms that find the threshold, and then the sums of what is not kept.
// An estimate that is compared with the gradient waits for the norm, the losses and the products of both; one whose norm is measured
// (step.exact_norm) once more.
// Ranks that pass values through the host wait at the end of the step as well, where the host's group is free again.
inline int64_t planned_waits(const ZerothOrderCase& test, int64_t step, int world, EngineSetup::Between between) {
  const StepKind kind = step_kind(test.config.step, step);
  const bool has_both = kind.backprop && kind.queries, measures_norm = kind.queries && !kind.backprop && test.config.step.exact_norm;
  const int64_t agreements = (!has_both ? 1 : kind.instructed && test.config.step.instruct.energy ? 6 : 3) + (measures_norm ? 1 : 0);
  return agreements + (world > 1 && between == EngineSetup::Between::Staged ? 1 : 0);
}

// Counts them in every step of a run, and expects what is planned. The first step makes what stays: streams' pinned memory, LibTorch's. As
// two steps may be under way at once, the next ones still take pinned memory for their batches, which waits where pinning does.
inline void count_waits(const ZerothOrderCase& test, int world, EngineSetup& setup) {
  thread_local int64_t before = 0;
  const auto between = setup.between;
  setup.before_step = [](int64_t, Engine&) { before = fake_gpu::num_host_waits_of_this_thread(); };
  setup.after_step = [=](int64_t step, Engine& engine) {
    const int64_t waits = fake_gpu::num_host_waits_of_this_thread() - before;
    if (step == 0 || (step < 3 && std::getenv("FAKE_GPU_PINNING_WAITS") != nullptr)) return;
    EXPECT_EQ(waits, planned_waits(test, step, world, between)) << "step " << step << " of rank " << engine.rank();
  };
}

}  // namespace zerostep::testing
