#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "runtime/strategy/make_strategy.h"
#include "tests/runtime/support/zeroth_order_case.h"

// What the visits of queries say of their copies of weights is what the strategy asks for.
namespace zerostep::testing {
namespace {

using Mode = StepConfig::Mode;

class CountingWeights final : public BranchWeights {
 public:
  void use_plain() override { ++plain; }
  void perturb(int64_t, bool plus, bool minus) override {
    ++directions;
    copies += (plus ? 1 : 0) + (minus ? 1 : 0);
  }
  void use(Sign) override {}
  BranchPerturbation low_rank(std::span<const ProbeBranch>) override { throw std::logic_error("no factors"); }
  BranchPerturbation tiled(int64_t, bool, bool) override { throw std::logic_error("no tiles"); }
  int64_t plain = 0, directions = 0, copies = 0;
};

class CountingUnit final : public Unit {
 public:
  TensorList forward(const TensorList&, const ForwardContext&) override {
    ++forwards;
    return {at::zeros({1})};
  }
  TensorList forward_branches(const TensorList&, const ForwardContext&, const BranchPerturbation&) override {
    throw std::logic_error("no branches together");
  }
  int64_t forwards = 0;
};

TEST(BranchCopies, AreThoseThatTheVisitPlans) {
  struct Case {
    Mode mode;
    StepConfig::Estimator estimator;
    bool independent, shared;
    int64_t branches, copies, plain;  // of three directions; plain: made again
  };
  using Estimator = StepConfig::Estimator;
  for (const Case& c :
       {Case{Mode::ZerothOrder, Estimator::Central, false, false, 6, 6, 0},
        Case{Mode::ZerothOrder, Estimator::Forward, false, false, 4, 3, 0},
        Case{Mode::ZerothOrder, Estimator::Forward, true, false, 6, 3, 2}, Case{Mode::ZerothOrder, Estimator::Central, true, true, 3, 0, 0},
        Case{Mode::Instruct, Estimator::Central, false, false, 6, 6, 0}}) {
    SCOPED_TRACE(fmt::format("{} branches, {} copies, {} more plain ones", c.branches, c.copies, c.plain));
    ZerothOrderCase test = ZerothOrderCase::tiny(c.mode);
    test.config.precision.compute = DType::BF16;
    test.config.step.queries = test.config.step.queries_per_pass = 3;
    test.config.step.estimator = c.estimator;
    test.config.step.independent_data = c.independent;
    if (c.shared) test.config.step.scope = {"transformer.h.2.*"};
    const auto model = make_gpt2(test.model);
    const auto objective = make_cross_entropy();
    const TrainingPlan plan = plan_training(test.config, *model, *objective, 1);
    const auto queries = make_queries(test.config, plan.layout, *objective, 0, 1);
    const int micro_batches = static_cast<int>(test.config.step.query_batch.accumulation_steps);
    const Visit visit = (c.mode == Mode::Instruct ? queries->instructed_visits(micro_batches) : queries->visits(micro_batches)).front();
    const PassBatches batches = queries->read_batches(visit, test.batches(0, 0, 1).queries);
    CountingWeights weights;
    CountingUnit unit;
    queries->begin_step(1);
    queries->visit({visit, false, unit, Batch(), ForwardContext{}, weights, batches, at::Tensor()});
    EXPECT_EQ(visit.branches, c.branches);
    EXPECT_EQ(visit.copied_branches, c.copies);
    EXPECT_EQ(weights.copies, c.copies);
    EXPECT_EQ(weights.directions, c.copies == 0 ? 0 : 3);
    EXPECT_EQ(weights.plain, c.plain);
    EXPECT_EQ(unit.forwards, c.branches * micro_batches);
  }
}

}  // namespace
}  // namespace zerostep::testing
