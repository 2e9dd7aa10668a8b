#include <gtest/gtest.h>

#include <chrono>
#include <random>
#include <thread>

#include "base/error.h"
#include "tests/runtime/support/zeroth_order_case.h"

// Lanes of any speed: on a device whose streams stop for a random time before every piece of work, a step that waits for what its plan says
// gives the same bits, and one that does not is found out.
namespace zerostep::testing {
namespace {

using Mode = StepConfig::Mode;

class SlowStream final : public Stream::Impl {
 public:
  SlowStream(const std::string& name, uint32_t seed) : stream_(Stream::worker(name)), random_(seed) {}
  Event enqueue(std::function<void()> work) override {
    const std::chrono::microseconds pause(random_() % 8 == 0 ? 1000 : random_() % 200);
    return stream_.enqueue([pause, work = std::move(work)] {
      std::this_thread::sleep_for(pause);
      work();
    });
  }
  void wait(const Event& event) override { stream_.wait(event); }
  void synchronize() override { stream_.synchronize(); }
  void drain() noexcept override { stream_.drain(); }
  const std::string& name() const override { return stream_.name(); }

 private:
  Stream stream_;
  std::mt19937 random_;  // of the thread that enqueues
};

class SlowDevice final : public Device::Impl {
 public:
  const std::string& name() const override { return cpu_.name(); }
  Stream compute_stream() const override { return cpu_.compute_stream(); }
  Stream stream(const std::string& name) const override { return Stream(std::make_shared<SlowStream>(name, ++streams_)); }
  Arena memory(const std::string& name, int64_t num_bytes, MemoryKind kind) const override { return cpu_.memory(name, num_bytes, kind); }
  Event copy(Stream& stream, void* to, const void* from, int64_t num_bytes) const override {
    return cpu_.copy(stream, to, from, num_bytes);
  }
  Event fill(Stream& stream, void* to, uint8_t value, int64_t num_bytes) const override { return cpu_.fill(stream, to, value, num_bytes); }

 private:
  Device cpu_ = Device::cpu();
  mutable std::atomic<uint32_t> streams_ = 0;  // every rank's goes at another speed
};

ZerothOrderCase case_of(Mode mode, int stage) {
  ZerothOrderCase test = ZerothOrderCase::tiny(mode);
  test.config.zero.stage = stage;
  test.config.zero.overlap_comm = true;
  test.config.zero.stage3_max_live_parameters = 4000;
  test.config.zero.stage3_max_reuse_distance = 0;
  test.config.zero.stage3_prefetch_bucket_size = 2000;
  test.config.zero.reduce_bucket_size = test.config.zero.allgather_bucket_size = 1000;
  test.config.step.bp_interval = 2;
  test.steps = 4;
  return test;
}

class SlowStreams : public ::testing::TestWithParam<Mode> {};

TEST_P(SlowStreams, GiveTheSameBits) {
  for (const int stage : {0, 1, 2, 3})
    for (const int ranks : {2, 4}) {
      if (ranks == 4 && stage < 3) continue;
      SCOPED_TRACE(fmt::format("stage {}, {} ranks", stage, ranks));
      const ZerothOrderCase test = case_of(GetParam(), stage);
      const ZerothOrderOutcome expected = run_zeroth_order_threads(test, ranks);
      const ZerothOrderOutcome found = run_zeroth_order_threads(test, ranks, {.device = Device(std::make_shared<const SlowDevice>())});
      expect_same(found, expected);
      EXPECT_EQ(found.norms, expected.norms);
    }
}
INSTANTIATE_TEST_SUITE_P(Modes, SlowStreams, ::testing::Values(Mode::FirstOrder, Mode::ZerothOrder, Mode::Calibrate, Mode::Instruct),
                         [](const ::testing::TestParamInfo<Mode>& info) { return fmt::format("mode{}", static_cast<int>(info.param)); });

TEST(SlowStreams, FindAStepThatDoesNotWait) {
  for (const auto& [mode, stage] : {std::pair{Mode::FirstOrder, 3}, {Mode::FirstOrder, 2}, {Mode::ZerothOrder, 3}}) {
    SCOPED_TRACE(fmt::format("mode {}, stage {}", static_cast<int>(mode), stage));
    const ZerothOrderCase test = case_of(mode, stage);
    const ZerothOrderOutcome expected = run_zeroth_order_threads(test, 2);
    EngineSetup hasty{.device = Device(std::make_shared<const SlowDevice>())};
    hasty.change_plan = [](TrainingPlan& plan) {
      for (TrainingPlan::Step& step : plan.steps)
        for (Action& a : step.plan.actions)
          if (a.kind == ActionKind::Visit) a.waits.clear();
    };
    bool found = false;
    try {
      found = run_zeroth_order_threads(test, 2, hasty).parameters != expected.parameters;
    } catch (const RunError&) {  // numbers that are none
      found = true;
    }
    EXPECT_TRUE(found);
  }
}

}  // namespace
}  // namespace zerostep::testing
