#include "runtime/engine/prediction.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <map>

#include "tests/runtime/support/planned.h"
#include "tests/support/scratch_folder.h"

namespace zerostep::testing {
namespace {

using Mode = StepConfig::Mode;

TEST(Prediction, LanesAndChainsAddUp) {
  for (const Mode mode : {Mode::FirstOrder, Mode::ZerothOrder, Mode::Calibrate, Mode::Instruct, Mode::Alternating})
    for (const int stage : {0, 3})
      for (const bool shares : {false, true}) {
        const Planned p(mode, 2, [&](ZerothOrderCase& c) { at_stage(c, stage); });
        Machine m = small_machine();
        m.lanes_share_cores = shares;
        const Prediction prediction = p.on(m);
        ASSERT_EQ(prediction.steps.size(), p.plan->steps.size());
        double shares_of_steps = 0;
        for (size_t i = 0; i < prediction.steps.size(); ++i) {
          const Simulation& s = prediction.steps[i].simulation;
          shares_of_steps += prediction.steps[i].share;
          double chain = 0;
          std::array<double, kLanes> busy = {};
          for (const double seconds : s.bound_seconds) chain += seconds;
          for (int a = 0; a < std::ssize(s.actions); ++a)
            nth(busy, p.plan->steps[i].plan.action(a).lane) += nth(s.actions, a).end - nth(s.actions, a).begin;
          expect_near(chain, s.seconds);
          for (int lane = 0; lane < kLanes; ++lane) {
            EXPECT_DOUBLE_EQ(nth(s.lane_seconds, lane), nth(busy, lane));
            EXPECT_LE(nth(s.bound_seconds, lane), nth(s.lane_seconds, lane) * (1 + kRelative));
          }
        }
        EXPECT_DOUBLE_EQ(shares_of_steps, 1);
      }
}

// More of anything is never slower, where lanes do not take cores or the disk from one another.
TEST(Prediction, AFasterMachineIsNeverSlower) {
  const ScratchFolder folder;
  Machine slow = small_machine();
  slow.lanes_share_cores = false;
  const std::vector<std::pair<const char*, std::function<void(Machine&)>>> changes = {
      {"products",
       [](Machine& m) {
         for (GemmRate& r : m.gemm) r.flops_per_second *= 2;
       }},
      {"elementwise",
       [](Machine& m) {
         for (ElementwiseRate& r : m.elementwise) r.bytes_per_second *= 2;
       }},
      {"operations", [](Machine& m) { m.operation_seconds /= 2; }},
      {"memory", [](Machine& m) { m.memory_bytes_per_second *= 2; }},
      {"noise", [](Machine& m) { m.noise_elements_per_second *= 2; }},
      {"updates", [](Machine& m) { m.update_bytes_per_second *= 2, m.host_update_bytes_per_second *= 2; }},
      {"gathers", [](Machine& m) { m.gather_in_host.bytes_per_second *= 2; }},
      {"reductions", [](Machine& m) { m.reduce_in_host.latency_seconds /= 2; }},
      {"reads", [](Machine& m) { m.file_read.bytes_per_second *= 2; }},
      {"writes", [](Machine& m) { m.file_write.bytes_per_second *= 2; }},
      {"agreements", [](Machine& m) { m.agreement_seconds /= 2; }}};
  std::map<std::string, int> faster;
  for (const Mode mode : {Mode::FirstOrder, Mode::ZerothOrder})
    for (const Tier tier : {Tier::Device, Tier::Host, Tier::File}) {
      const Planned p(mode, 2, [&](ZerothOrderCase& c) {
        at_stage(c, 3);
        c.config.zero.offload_param.tier = c.config.zero.offload_optimizer.tier = tier;
        c.config.zero.offload_param.nvme_paths = c.config.zero.offload_optimizer.nvme_paths = {folder.folder().string()};
      });
      const double before = p.on(slow).step_seconds;
      for (const auto& [name, change] : changes) {
        Machine m = slow;
        change(m);
        const double after = p.on(m).step_seconds;
        EXPECT_LE(after, before * (1 + kRelative)) << name;
        faster[name] += after < before * (1 - kRelative) ? 1 : 0;
      }
    }
  for (const auto& [name, change] : changes) EXPECT_GT(faster[name], 0) << name;
}

// The mean over a long run, counted step by step.
TEST(Prediction, StepsCountAsOftenAsTheyCome) {
  const std::vector<std::pair<Mode, std::function<void(StepConfig&)>>> cases = {
      {Mode::FirstOrder, [](StepConfig&) {}},
      {Mode::ZerothOrder, [](StepConfig&) {}},
      {Mode::Calibrate, [](StepConfig& s) { s.bp_interval = 3, s.monitor_interval = 2; }},
      {Mode::Calibrate, [](StepConfig& s) { s.bp_interval = 1, s.monitor_interval = 1; }},
      {Mode::Calibrate, [](StepConfig& s) { s.bp_interval = 4, s.monitor_interval = 0; }},
      {Mode::Instruct, [](StepConfig& s) { s.bp_interval = 3; }},
      {Mode::Instruct, [](StepConfig& s) { s.bp_interval = 1; }},
      {Mode::Alternating, [](StepConfig& s) { s.zo_steps = 5; }}};
  for (const auto& [mode, change] : cases) {
    const Planned p(mode, 1, [&, change = change](ZerothOrderCase& c) { change(c.config.step); });
    const Prediction prediction = p.on(small_machine());
    constexpr int kSteps = 12;  // several of each cycle
    double seconds = 0, tokens = 0;
    for (int step = 0; step < kSteps; ++step) {
      const StepKind kind = step_kind(p.test.config.step, step);
      const auto of_kind = std::find_if(prediction.steps.begin(), prediction.steps.end(), [&](const auto& s) { return s.kind == kind; });
      ASSERT_NE(of_kind, prediction.steps.end());
      seconds += of_kind->simulation.seconds;
      tokens +=
          static_cast<double>(p.test.sequence * (kind.backprop ? p.test.config.batch.train_batch_size : p.test.config.samples_of_step()));
    }
    expect_near(prediction.step_seconds, seconds / kSteps);
    expect_near(prediction.tokens_per_second, tokens / seconds);
  }
}

}  // namespace
}  // namespace zerostep::testing
