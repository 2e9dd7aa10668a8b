#include <c10/cuda/CUDAStream.h>
#include <gtest/gtest.h>
#include <torch/csrc/profiler/stubs/base.h>

#include <chrono>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "fake_gpu/engine_case.h"
#include "fake_gpu/fake_gpu.h"

// When training on the fake GPU does what: the trace, the breakdown of a step and ranges of NVTX.
namespace zerostep::testing {
namespace {

constexpr double kSlowSeconds = 0.03;

// Leaves work to the device that takes so long there, and whose launch does not.
class SlowOnDevice final : public Objective {
 public:
  at::Tensor sum(const Batch& batch, const TensorList& outputs) const override {
    const auto sleep = [](void*) { std::this_thread::sleep_for(std::chrono::duration<double>(kSlowSeconds)); };
    EXPECT_EQ(cudaLaunchHostFunc(c10::cuda::getCurrentCUDAStream(0).stream(), sleep, nullptr), cudaSuccess);
    return inner_->sum(batch, outputs);
  }
  at::Tensor value(const Batch& batch, const TensorList& outputs) const override { return inner_->value(batch, outputs); }
  const char* name() const override { return inner_->name(); }
  ActivationCost activation_cost(const ActivationShape& shape, int64_t vocabulary) const override {
    return inner_->activation_cost(shape, vocabulary);
  }

 private:
  std::unique_ptr<Objective> inner_ = make_cross_entropy();
};

// The trace and the breakdown say when the device works and how long, not the host that launches.
TEST(CudaEngineTimes, AreThoseOfTheDevice) {
  ZerothOrderCase test = case_of(kEngineKinds[0], {0, 1, DType::F32, 1, 0.0});
  test.config.run.trace = test.config.wall_clock_breakdown = true;
  test.steps = 4;
  const SlowOnDevice objective;
  std::vector<double> begins;  // of the steps
  std::vector<StepTimers> timers;
  std::vector<Trace::Interval> slow, all;
  run_zeroth_order_threads(test, 1,
                           {.objective = &objective,
                            .before_step =
                                [&](int64_t step, Engine& engine) {
                                  begins.push_back(engine.trace()->now());
                                  if (step > 0) timers.push_back(engine.timers());
                                  if (step != 3) return;
                                  engine.settle();
                                  all = engine.trace()->intervals();
                                },
                            .device = Device::cuda(0)});
  for (const Trace::Interval& at : all) {
    EXPECT_GE(at.end, at.begin) << at.name;
    EXPECT_GE(at.begin, 0) << at.name;
    if (at.end - at.begin > 0.9 * kSlowSeconds) slow.push_back(at);
  }
  ASSERT_EQ(slow.size(), 3U);
  double in_phases = 0;
  for (size_t step = 0; step < 3; ++step) {
    EXPECT_EQ(slow[step].row, std::string("computation"));
    EXPECT_EQ(slow[step].name, "forward head");
    EXPECT_GT(slow[step].begin, begins[step]);
    EXPECT_LT(slow[step].begin, begins[step + 1]);
    EXPECT_GT(timers[step].forward, 0.9 * kSlowSeconds);
    EXPECT_GT(timers[step].backward, 0);
    in_phases += timers[step].total() - timers[step].data;
  }
  EXPECT_LT(in_phases, begins.back() - begins.front()) << "no time counts twice";
  // An update that is not done when its step ends counts for the next.
  EXPECT_GT(timers[0].update + timers[1].update, 0);
}

// Rows and names of what is traced, but for waits.
std::multiset<std::string> traced(ZerothOrderCase test, int world, bool on_gpu) {
  test.config.run.trace = true;
  std::multiset<std::string> out;
  const auto look = [&](int64_t step, Engine& engine) {
    if (step != 2 || engine.rank() != 0) return;
    engine.settle();
    for (const Trace::Interval& at : engine.trace()->intervals())
      if (!at.name.starts_with("wait for")) out.insert(fmt::format("{}: {}", at.row, at.name));
  };
  run_zeroth_order_threads(test, world,
                           {.before_step = look, .device_of_rank = [&](int rank) { return on_gpu ? Device::cuda(rank) : Device::cpu(); }});
  return out;
}

TEST(CudaEngineTimes, HaveTheRowsAndNamesOfAProcessor) {
  for (const EngineKind& kind : {kEngineKinds[1], kEngineKinds[5]})
    for (const int world : {1, 2}) {
      SCOPED_TRACE(fmt::format("{}, {} ranks", kind.name, world));
      const ZerothOrderCase test = case_of(kind, {3, world, DType::F32, 2, 0.0});
      const auto found = traced(test, world, true);
      EXPECT_GT(found.size(), 50U);
      EXPECT_EQ(found, traced(test, world, false));
    }
}

struct Ranges final : torch::profiler::impl::ProfilerStubs {
  void record(c10::DeviceIndex*, torch::profiler::impl::ProfilerVoidEventStub*, int64_t*) const override {}
  float elapsed(const torch::profiler::impl::ProfilerVoidEventStub*, const torch::profiler::impl::ProfilerVoidEventStub*) const override {
    return 0;
  }
  void mark(const char*) const override {}
  void rangePush(const char* name) const override {
    ++depth;
    names.insert(name);
  }
  void rangePop() const override { --depth; }
  void onEachDevice(std::function<void(int)>) const override {}
  void synchronize() const override {}
  mutable int depth = 0;
  mutable std::multiset<std::string> names;
};

// What is in the trace of a run of one rank is launched in ranges of NVTX of the same names.
TEST(CudaEngineTimes, AreInRangesOfNvtx) {
  auto* const before = const_cast<torch::profiler::impl::ProfilerStubs*>(torch::profiler::impl::cudaStubs());
  Ranges ranges;
  torch::profiler::impl::registerCUDAMethods(&ranges);
  ZerothOrderCase test = case_of(kEngineKinds[0], {3, 1, DType::F32, 2, 0.0});
  for (const bool has_trace : {false, true}) {
    test.config.wall_clock_breakdown = true;
    test.config.run.trace = has_trace;
    std::multiset<std::string> in_trace;
    const auto look = [&](int64_t step, Engine& engine) {
      engine.settle();
      if (step != 2) return;
      EXPECT_EQ(ranges.depth, 0);
      if (has_trace)
        for (const Trace::Interval& at : engine.trace()->intervals()) in_trace.insert(at.name);
      EXPECT_EQ(in_trace, ranges.names);
    };
    run_zeroth_order_threads(test, 1, {.before_step = look, .device = Device::cuda(0)});
    EXPECT_EQ(in_trace.contains("forward h.1"), has_trace);
  }
  torch::profiler::impl::registerCUDAMethods(before);
}

}  // namespace
}  // namespace zerostep::testing
