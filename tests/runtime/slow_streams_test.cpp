#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <mutex>
#include <random>
#include <set>
#include <thread>
#include <tuple>
#include <vector>

#include "base/error.h"
#include "sharding/local_ranks.h"
#include "tests/runtime/support/cpu_like_device.h"
#include "tests/runtime/support/zeroth_order_case.h"

// Lanes of any speed: on a device whose streams stop for a random time before every piece of work, a step that waits for what its plan says
// gives the same bits, and one that does not is found out. Its compute stream is a thread as well: no action may rely on the host's order.
// Under ThreadSanitizer the former is clean, and the races of the latter are reported (README.md has the command).
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
  bool is_current() const override { return stream_.is_current(); }

 private:
  Stream stream_;
  std::mt19937 random_;  // of the thread that enqueues
};

// Its collectives, and where it is asked for its kernels, run in threads of their own, as on an accelerator: the host is ahead of them.
class SlowDevice final : public CpuLikeDevice {
 public:
  explicit SlowDevice(bool is_compute_slow) : is_compute_slow_(is_compute_slow) {}
  Stream compute_stream() const override { return is_compute_slow_ ? stream("compute") : CpuLikeDevice::compute_stream(); }
  Stream stream(const std::string& name) const override { return Stream(std::make_shared<SlowStream>(name, ++streams_)); }
  Stream host_stream(const std::string& name) const override { return stream(name); }

 private:
  bool is_compute_slow_;
  mutable std::atomic<uint32_t> streams_ = 0;  // every rank's goes at another speed
};

Device slow_device(bool is_compute_slow) { return Device(std::make_shared<const SlowDevice>(is_compute_slow)); }

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

void use_muon(ZerothOrderCase& test) {
  test.config.optimizer.type = OptimizerConfig::Type::Muon;
  test.config.optimizer.type_name = "Muon";
}

void keep_checkpoints_on_host(ZerothOrderCase& test) {
  test.model.n_layer = 5;  // four checkpoints for two slots
  test.config.number_checkpoints = -1;
  test.config.cpu_checkpointing = true;
}

void rest_on_host(ZerothOrderCase& test) {
  if (test.config.zero.stage == 3) test.config.zero.offload_param.tier = Tier::Host;
  if (test.config.zero.stage > 0) test.config.zero.offload_optimizer.tier = Tier::Host;
}

void rest_in_files(ZerothOrderCase& test) {
  ZeroConfig& zero = test.config.zero;
  if (zero.stage == 3) zero.offload_param.tier = Tier::File;
  if (zero.stage > 0) zero.offload_optimizer.tier = Tier::File;
  zero.offload_param.buffer_count = zero.offload_optimizer.buffer_count = 2;
  zero.offload_param.nvme_paths = zero.offload_optimizer.nvme_paths = {::testing::TempDir() + "/slow-streams"};
}

class SlowStreams : public ::testing::TestWithParam<Mode> {};

TEST_P(SlowStreams, GiveTheSameBits) {
  for (const int ranks : {1, 2, 4})
    for (const int stage : {0, 1, 2, 3})
      for (const bool overlap : {true, false}) {
        // Alone there is nobody to send to, and without a lane of its own four ranks do what two do.
        if ((ranks == 1 && stage % 3 != 0) || (ranks == 4 && !overlap)) continue;
        SCOPED_TRACE(fmt::format("stage {}, {} ranks, overlap {}", stage, ranks, overlap));
        ZerothOrderCase test = case_of(GetParam(), stage);
        test.config.zero.overlap_comm = overlap;
        const ZerothOrderOutcome expected = run_zeroth_order_threads(test, ranks);
        for (const bool is_compute_slow : {true, false}) {
          if (!is_compute_slow && (!overlap || ranks == 1 || (ranks == 4 && stage < 3))) continue;
          const ZerothOrderOutcome found = run_zeroth_order_threads(test, ranks, {.device = slow_device(is_compute_slow)});
          expect_same(found, expected);
          EXPECT_EQ(found.skipped, expected.skipped);
        }
      }
}
INSTANTIATE_TEST_SUITE_P(Modes, SlowStreams,
                         ::testing::Values(Mode::FirstOrder, Mode::ZerothOrder, Mode::Calibrate, Mode::Instruct, Mode::Alternating),
                         [](const ::testing::TestParamInfo<Mode>& info) { return fmt::format("mode{}", static_cast<int>(info.param)); });

// What the modes above leave out: recomputed activations, 16-bit messages, gradients outside the flat buffer, matrices with owners, copies
// of weights, batches of their own for directions, two passes.
TEST(SlowStreams, GiveTheSameBitsInEveryVariant) {
  const std::vector<std::tuple<const char*, Mode, std::function<void(ZerothOrderCase&)>>> variants = {
      {"recompute", Mode::Calibrate, [](ZerothOrderCase& c) { c.config.number_checkpoints = 2; }},
      {"checkpoints on the host", Mode::FirstOrder, keep_checkpoints_on_host},
      {"16 bits", Mode::Calibrate, [](ZerothOrderCase& c) { c.config.precision.compute = c.config.communication_data_type = DType::BF16; }},
      {"gradients apart", Mode::Calibrate, [](ZerothOrderCase& c) { c.config.zero.contiguous_gradients = false; }},
      {"matrices of estimates", Mode::Calibrate, use_muon},
      {"matrices of backprop", Mode::FirstOrder, use_muon},
      {"matrices of blends", Mode::Instruct, use_muon},
      {"passes", Mode::Calibrate,
       [](ZerothOrderCase& c) {
         c.config.step.queries = 4;
         c.config.step.queries_per_pass = 2;
         c.config.step.independent_data = true;
         c.config.step.estimator = StepConfig::Estimator::Forward;
       }},
      {"memory of the host", Mode::FirstOrder, rest_on_host},
      {"memory of the host, mixed", Mode::Alternating, rest_on_host},
      {"files", Mode::FirstOrder, rest_in_files},
      {"files, mixed", Mode::Calibrate, rest_in_files},
      {"files, queries", Mode::ZerothOrder, rest_in_files},
      {"low rank", Mode::Calibrate, [](ZerothOrderCase& c) { c.config.step.perturbation = StepConfig::Perturbation::LowRank; }},
  };
  for (const auto& [name, mode, change] : variants)
    for (const int stage : {0, 2, 3}) {
      SCOPED_TRACE(fmt::format("{}, stage {}", name, stage));
      ZerothOrderCase test = case_of(mode, stage);
      change(test);
      const ZerothOrderOutcome expected = run_zeroth_order_threads(test, 2);
      expect_same(run_zeroth_order_threads(test, 2, {.device = slow_device(true), .updates = std::nullopt}), expected);
    }
}

TEST(SlowStreams, AnEvaluationBetweenStepsIsTheSame) {
  ZerothOrderCase test = case_of(Mode::Calibrate, 3);
  const auto run = [&](const Device& device) {
    std::mutex mutex;
    std::set<double> found;  // of all ranks
    const auto evaluate = [&](int64_t step, Engine& engine) {
      const auto batch = [&](int64_t b) { return Engine::EvaluationBatch{test.batch(7, b, 0, 2), b != 1}; };
      double outputs = 0;
      const double loss =
          engine.evaluate(3, batch, [&](const Batch&, const TensorList& out) { outputs += out.at(0).sum(at::kDouble).item<double>(); })
              .loss;
      const std::lock_guard lock(mutex);
      found.insert({static_cast<double>(step), loss, outputs});
    };
    run_zeroth_order_threads(test, 2, {.before_step = evaluate, .device = device});
    return found;
  };
  const std::set<double> expected = run(Device::cpu());
  EXPECT_EQ(expected.size(), 3U * static_cast<size_t>(test.steps));  // every rank has the same
  EXPECT_EQ(run(slow_device(true)), expected);
}

TEST(SlowStreams, FindAStepThatDoesNotWait) {
  using Case = std::tuple<Mode, int, bool, ActionKind>;
  constexpr ActionKind kVisit = ActionKind::Visit;
  for (const auto& [mode, stage, is_compute_slow, kind] :
       {Case{Mode::FirstOrder, 3, false, kVisit}, Case{Mode::FirstOrder, 2, false, kVisit}, Case{Mode::ZerothOrder, 3, false, kVisit},
        Case{Mode::FirstOrder, 3, true, kVisit}, Case{Mode::ZerothOrder, 3, true, kVisit},
        Case{Mode::FirstOrder, 2, true, ActionKind::MakeMatrixUpdates}, Case{Mode::FirstOrder, 2, true, ActionKind::ScatterMatrixUpdates},
        Case{Mode::ZerothOrder, 2, true, ActionKind::ApplyMatrixUpdates}, Case{Mode::FirstOrder, 3, true, ActionKind::Gather},
        Case{Mode::FirstOrder, 2, true, ActionKind::GatherUpdated}, Case{Mode::FirstOrder, 2, true, ActionKind::Store},
        Case{Mode::FirstOrder, 2, false, ActionKind::Load}}) {
    SCOPED_TRACE(
        fmt::format("mode {}, stage {}, slow compute stream {}, {}", static_cast<int>(mode), stage, is_compute_slow, name_of(kind)));
    ZerothOrderCase test = case_of(mode, stage);
    const bool updates_on_host = kind == ActionKind::Gather || kind == ActionKind::GatherUpdated;
    if (updates_on_host)
      rest_on_host(test);
    else if (kind == ActionKind::Store || kind == ActionKind::Load)
      keep_checkpoints_on_host(test);
    else if (kind != kVisit)
      use_muon(test);
    const ZerothOrderOutcome expected = run_zeroth_order_threads(test, 2);
    EngineSetup hasty{.device = slow_device(is_compute_slow), .updates = std::nullopt};
    hasty.change_plan = [kind = kind](TrainingPlan& plan) {
      for (TrainingPlan::Step& step : plan.steps)
        for (Action& a : step.plan.actions)
          if (a.kind == kind) a.waits.clear();
    };
    std::atomic<bool> found = false;  // by any rank, in numbers that need not be the same on both
    test.share_over(2);
    try {
      run_local_ranks(2, {.timeout_seconds = 60}, [&](Communicator world) {
        if (run_zeroth_order(test, world, hasty).parameters != expected.parameters) found = true;
      });
    } catch (const RunError&) {  // numbers that are none
      found = true;
    }
    EXPECT_TRUE(found);
  }
}

// Cross-entropy until the first step.
class FailingObjective final : public Objective {
 public:
  at::Tensor sum(const Batch& batch, const TensorList& outputs) const override {
    if (fails) throw std::runtime_error("no loss");
    return inner_->sum(batch, outputs);
  }
  at::Tensor value(const Batch& batch, const TensorList& outputs) const override { return inner_->value(batch, outputs); }
  const char* name() const override { return "failing"; }
  ActivationCost activation_cost(const ActivationShape& shape, int64_t vocabulary) const override {
    return inner_->activation_cost(shape, vocabulary);
  }
  std::atomic<bool> fails = false;

 private:
  std::unique_ptr<Objective> inner_ = make_cross_entropy();
};

TEST(SlowStreams, AFailureOnTheComputeStreamSaysRankStepOperationAndUnit) {
  FailingObjective objective;
  try {
    run_zeroth_order_threads(
        case_of(Mode::FirstOrder, 3), 2,
        {.objective = &objective, .before_step = [&](int64_t step, Engine&) { objective.fails = step == 1; }, .device = slow_device(true)});
    ADD_FAILURE() << "nothing was thrown";
  } catch (const RunError& error) {
    const std::string said = error.what();
    EXPECT_TRUE(said == "rank 0, step 1, forward of unit head: no loss" || said == "rank 1, step 1, forward of unit head: no loss") << said;
  }
}

}  // namespace
}  // namespace zerostep::testing
