#include <gtest/gtest.h>

#include <map>
#include <mutex>
#include <set>

#include "base/error.h"
#include "sharding/local_ranks.h"
#include "tests/runtime/support/zeroth_order_case.h"

// Updates that wait for the next step: applied before what touches their group, and before anybody else sees the parameters. Results are
// those of immediate updates, to the bit.
namespace zerostep::testing {
namespace {

using Mode = StepConfig::Mode;
using Perturbation = StepConfig::Perturbation;

struct DeferredCase {
  Mode mode;
  Perturbation perturbation = Perturbation::Gaussian;
  double clipping = 0;
  DType type = DType::F32;
  bool separate_state = false;
  bool overlaps = true;  // collectives visits, in small buckets; false: nothing, in large ones
};

ZerothOrderCase case_of(const DeferredCase& c, int stage) {
  ZerothOrderCase test = ZerothOrderCase::tiny(c.mode);
  Config& config = test.config;
  config.zero.stage = stage;
  config.zero.overlap_comm = c.overlaps;
  config.zero.stage3_prefetch_bucket_size = 2000;
  config.zero.stage3_param_persistence_threshold = stage == 3 ? 40 : 0;  // some groups stay whole
  if (c.overlaps) config.zero.allgather_bucket_size = 1000;
  config.zero.sub_group_size = 1000;
  config.step.bp_interval = c.mode == Mode::Calibrate || c.mode == Mode::Instruct ? 2 : config.step.bp_interval;
  config.step.perturbation = c.perturbation;
  config.step.separate_state = c.separate_state;
  config.gradient_clipping = c.clipping;
  config.precision.compute = c.type;
  test.steps = 5;
  return test;
}

const DeferredCase kCases[] = {{Mode::FirstOrder},
                               {.mode = Mode::FirstOrder, .clipping = 0.1},
                               {.mode = Mode::FirstOrder, .type = DType::BF16},
                               {.mode = Mode::FirstOrder, .type = DType::BF16, .overlaps = false},
                               {Mode::ZerothOrder},
                               {Mode::ZerothOrder, Perturbation::Rademacher},
                               {Mode::ZerothOrder, Perturbation::LowRank},
                               {.mode = Mode::ZerothOrder, .clipping = 0.1},
                               {Mode::Calibrate},
                               {Mode::Instruct},
                               {.mode = Mode::Alternating, .separate_state = true},
                               {.mode = Mode::Alternating, .clipping = 0.1, .separate_state = true}};

class DeferredUpdates : public ::testing::TestWithParam<size_t> {
 protected:
  const DeferredCase& parameter() const { return kCases[GetParam()]; }
};
INSTANTIATE_TEST_SUITE_P(Kinds, DeferredUpdates, ::testing::Range(size_t{0}, std::size(kCases)));

TEST_P(DeferredUpdates, GiveTheSameBits) {
  for (const int stage : {0, 1, 2, 3})
    for (const int ranks : {1, 2, 4}) {
      SCOPED_TRACE(fmt::format("stage {}, {} ranks", stage, ranks));
      const ZerothOrderCase test = case_of(parameter(), stage);
      const ZerothOrderOutcome expected = run_zeroth_order_threads(test, ranks);
      const ZerothOrderOutcome found = run_zeroth_order_threads(test, ranks, {.updates = Updates::Deferred});
      expect_same(found, expected);
      EXPECT_EQ(found.norms, expected.norms);
      EXPECT_EQ(found.cosines, expected.cosines);
    }
}

std::vector<std::byte> state_of(Engine& engine, int rank) {
  const std::vector<StatePiece> pieces = owned_state(engine.plan(), rank);
  int64_t bytes = 0;
  for (const StatePiece& s : pieces) bytes += num_bytes(s.count, s.type);
  std::vector<std::byte> out(static_cast<size_t>(bytes));
  std::vector<std::byte*> targets;
  std::byte* at = out.data();
  for (const StatePiece& s : pieces) {
    targets.push_back(at);
    at += num_bytes(s.count, s.type);
  }
  engine.copy_state(targets);
  return out;
}

// Whoever looks between two steps sees what an immediate update leaves, and changes nothing: what is read after each step, and the run.
TEST_P(DeferredUpdates, AreAppliedBeforeAnybodyLooks) {
  for (const int stage : {0, 1, 3})
    for (const int looked_at : {1, 2, 4}) {
      SCOPED_TRACE(fmt::format("stage {}, looked at before step {}", stage, looked_at));
      const ZerothOrderCase test = case_of(parameter(), stage);
      constexpr int kRanks = 2;
      struct Seen {
        std::vector<float> parameter;
        std::vector<std::byte> state;
        double loss = 0;
      };
      const auto run = [&](Updates updates, std::map<int, Seen>& seen) {
        std::mutex mutex;
        EngineSetup setup{.updates = updates};
        setup.before_step = [&](int64_t step, Engine& engine) {
          if (step != looked_at) return;
          Seen out;
          const int rank = engine.rank();
          if (looked_at == 1) engine.read_parameter(2, 3, out.parameter);
          if (looked_at == 2) out.state = state_of(engine, rank);
          if (looked_at == 4)
            out.loss = engine.evaluate(1, [&](int64_t) { return Engine::EvaluationBatch{test.batch(9, 0, rank, kRanks), true}; }).loss;
          std::lock_guard lock(mutex);
          seen[rank] = out;
        };
        return run_zeroth_order_threads(test, kRanks, setup);
      };
      std::map<int, Seen> immediate, deferred;
      const ZerothOrderOutcome expected = run(Updates::Immediate, immediate), found = run(Updates::Deferred, deferred);
      expect_same(found, expected);
      for (int rank = 0; rank < kRanks; ++rank) {
        EXPECT_EQ(deferred[rank].parameter, immediate[rank].parameter);
        EXPECT_EQ(deferred[rank].state, immediate[rank].state);
        EXPECT_EQ(deferred[rank].loss, immediate[rank].loss);
      }
    }
}

// A deferred list updates every trained group once, before anything else touches it and before the first agreement, and not at its end.
TEST(DeferredUpdatesPlan, StandBeforeTheFirstUseOfTheirGroup) {
  for (const DeferredCase& c : kCases)
    for (const int stage : {0, 1, 2, 3})
      for (const int ranks : {1, 2}) {
        ZerothOrderCase test = case_of(c, stage);
        test.share_over(ranks);
        const auto model = make_gpt2(test.model);
        const TrainingPlan plan = plan_training(test.config, *model, *make_cross_entropy(), ranks, Updates::Deferred);
        for (const auto& [kind, step] : plan.steps) {
          const bool clipped_estimate = c.clipping > 0 && kind.update != StepKind::Update::Gradient;
          EXPECT_EQ(step.defers_update, !clipped_estimate);
          std::map<int, int64_t> updated;
          std::set<int> used;
          bool agreed = false;
          int64_t late = 0;
          for (const Action& a : step.actions) {
            agreed |= a.kind == ActionKind::Agree;
            if (a.kind == ActionKind::Update) {
              (agreed ? late : updated[a.group]) += a.end - a.begin;
              EXPECT_TRUE(agreed || !used.contains(a.group)) << describe(plan.layout, step, a);
            } else if (a.kind == ActionKind::GatherUpdated) {
              for (const CollectivePart& part : a.parts) EXPECT_TRUE(agreed || !used.contains(part.group));
            } else {
              for (const BufferUse& use : a.uses) {
                const bool of_group = use.buffer.kind == BufferKind::Parameters || use.buffer.kind == BufferKind::Gradients;
                used.insert(of_group ? use.buffer.index : use.group);
              }
            }
          }
          int64_t elements = 0;
          for (const FlatGroup& g : plan.layout.groups) {
            const int64_t part = updates_whole(step.options) ? g.full_elements() : g.shard_elements();
            elements += part;
            EXPECT_EQ(updated[g.id], step.applies_pending ? part : 0) << g.name;
          }
          EXPECT_EQ(late, step.defers_update ? 0 : elements);
        }
      }
}

// Actions that are done before one begins: those it waits for, those before it in its lane, and what these needed.
std::set<int> done_before(const Plan& plan, int action) {
  std::set<int> out;
  std::vector<int> left{action};
  while (!left.empty()) {
    const int i = left.back();
    left.pop_back();
    std::vector<int> needed = plan.action(i).waits;
    for (int former = i - 1; former >= 0; --former)
      if (plan.action(former).lane == plan.action(i).lane) {
        needed.push_back(former);
        break;
      }
    for (const int other : needed)
      if (out.insert(other).second) left.push_back(other);
  }
  return out;
}

// Also where all units are gathered ahead of their visits and some groups stay whole, whose update is gathered for all units at once: a
// unit is visited while those behind it are still loaded and updated.
TEST(DeferredUpdatesPlan, AVisitWaitsForNoUpdateOfLaterUnits) {
  for (const StepConfig::Mode mode : {Mode::FirstOrder, Mode::ZerothOrder})
    for (const Tier tier : {Tier::Host, Tier::File}) {
      SCOPED_TRACE(fmt::format("{}, {}", mode == Mode::FirstOrder ? "backprop" : "queries", name_of(tier)));
      ZerothOrderCase test = case_of({.mode = mode}, 3);
      test.model.n_layer = 8;
      test.config.zero.stage3_prefetch_bucket_size = 1'000'000'000;
      test.config.zero.allgather_bucket_size = 500'000'000;
      test.config.zero.offload_param.tier = test.config.zero.offload_optimizer.tier = tier;
      test.config.zero.offload_param.nvme_paths = test.config.zero.offload_optimizer.nvme_paths = {"/tmp"};
      test.share_over(2);
      const auto model = make_gpt2(test.model);
      const TrainingPlan plan = plan_training(test.config, *model, *make_cross_entropy(), 2);
      const Plan& step = plan.any_step();
      std::map<int, int> first_visit, gather;  // of units; of groups
      for (int i = std::ssize(step.actions); i-- > 0;) {
        const Action& a = step.action(i);
        if (a.kind == ActionKind::Visit) first_visit[nth(step.visits, a.visit).unit] = i;
        if (a.kind == ActionKind::Gather) gather[a.group] = i;
      }
      for (const auto& [unit, visit] : first_visit) {
        std::set<int> later;  // groups that no unit so far needs, and that were to be gathered ahead
        for (const FlatGroup& g : plan.layout.groups)
          if (gather.contains(g.id)) later.insert(g.id);
        for (int u = 0; u <= unit; ++u)
          for (const int g : plan.layout.used_by(u)) later.erase(g);
        EXPECT_TRUE(unit > 8 || later.size() >= size_t(8 - unit)) << unit;
        for (const int i : done_before(step, visit))
          EXPECT_FALSE(step.action(i).kind == ActionKind::Update && later.contains(step.action(i).group))
              << describe(plan.layout, step, step.action(visit)) << " after " << describe(plan.layout, step, step.action(i));
      }
    }
}

// A step that fails before its forward leaves immediate updates as they were, and those of its own backward; of a deferred one a part may
// have been applied.
TEST(DeferredUpdatesFailure, ParametersOfNoStepAreNotRead) {
  for (const Updates updates : {Updates::Immediate, Updates::InBackward, Updates::Deferred})
    run_local_ranks(1, {}, [&](Communicator world) {
      ZerothOrderCase test = case_of({Mode::FirstOrder}, 0);
      if (updates == Updates::InBackward) {
        test.config.zero.stage = 1;
        test.config.zero.offload_optimizer.tier = Tier::Host;
        test.config.gradient_clipping = 0;
      }
      test.share_over(1);
      const auto model = make_gpt2(test.model);
      const auto objective = make_cross_entropy();
      const auto initial = [&](const ParameterInfo& info, int64_t begin, int64_t count, float* values) {
        initial_values(info, test.config.seed, begin, count, values);
      };
      Engine engine(test.config, *model, *objective, plan_training(test.config, *model, *objective, 1, updates), initial, world);
      for (int step = 0; step < 2; ++step) engine.train_step(step, test.batches(step, 0, 1));
      const auto fail = [](int64_t) -> Batch { throw std::runtime_error("no more data"); };
      EXPECT_THROW(engine.train_step(2, Engine::MicroBatches(fail)), RunError);
      std::vector<float> values;
      if (updates != Updates::Deferred) {
        EXPECT_NO_THROW(engine.read_parameter(2, 3, values));
        EXPECT_FALSE(values.empty());
        return;
      }
      try {
        engine.read_parameter(2, 3, values);
        FAIL() << "parameters of no step were read";
      } catch (const RunError& error) {
        EXPECT_NE(std::string(error.what()).find("the parameters are of no step"), std::string::npos) << error.what();
      }
    });
}

TEST(DeferredUpdatesPlan, MatrixOptimizersStayImmediate) {
  ZerothOrderCase test = case_of({Mode::FirstOrder}, 1);
  test.config.optimizer.type = OptimizerConfig::Type::Muon;
  const auto model = make_gpt2(test.model);
  for (const TrainingPlan::Step& step : plan_training(test.config, *model, *make_cross_entropy(), 2, Updates::Deferred).steps) {
    EXPECT_FALSE(step.plan.defers_update);
    EXPECT_FALSE(step.plan.applies_pending);
  }
}

}  // namespace
}  // namespace zerostep::testing
