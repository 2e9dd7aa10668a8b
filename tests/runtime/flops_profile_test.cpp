#include "runtime/report/flops_profile.h"

#include <gtest/gtest.h>

#include "tests/runtime/support/report_case.h"
#include "tests/runtime/support/zeroth_order_case.h"

namespace zerostep {
namespace {

using testing::ReportCase;

TEST(FlopsProfile, CountsEachUnitOnceForwardAndTwiceBackward) {
  const ReportCase planned(0, 1, 1);
  const auto& config = planned.test.config;
  const std::vector<UnitFlops> units = unit_flops(*planned.plan, step_kind(config.step, 0));
  ASSERT_EQ(units.size(), planned.model->units().size());
  for (size_t u = 0; u < units.size(); ++u) {
    EXPECT_EQ(units[u].name, planned.model->units()[u].name);
    EXPECT_EQ(units[u].parameters, planned.model->units()[u].num_elements());
    EXPECT_EQ(units[u].backward, (u == 0 ? 1 : 2) * units[u].forward);
  }
  // A block's matrices alone: c_attn, c_proj and the two of the MLP, two operations a weight and token.
  const double width = static_cast<double>(planned.test.model.n_embd), inner = static_cast<double>(planned.test.model.inner_width()),
               tokens = static_cast<double>(planned.test.global_batch * planned.test.sequence);
  const double matrices = 2 * (4 * width * width + 2 * width * inner) * tokens;
  EXPECT_GE(units[1].forward, matrices);
  EXPECT_LE(units[1].forward, 1.5 * matrices);
  StepTimers timers;
  timers.forward = 0.5;
  const std::string text = flops_profile(config, *planned.plan, step_kind(config.step, 0), timers, 2);
  EXPECT_NE(text.find("transformer.h.0.attn.c_attn.weight"), std::string::npos) << text;
}

// A mode of two kinds of steps is profiled as the step that was timed.
TEST(FlopsProfile, IsOfTheKindOfItsStep) {
  testing::ZerothOrderCase test = testing::ZerothOrderCase::tiny(StepConfig::Mode::Calibrate);
  test.config.step.monitor_interval = 2;
  test.config.step.query_sequence_length = 6;
  test.share_over(1);
  const auto model = make_gpt2(test.model);
  const auto objective = make_cross_entropy();
  const TrainingPlan plan = plan_training(test.config, *model, *objective, 1);
  const auto sums = [&](int64_t step) {
    double forward = 0, backward = 0;
    const StepKind kind = step_kind(test.config.step, step);
    for (const UnitFlops& u : unit_flops(plan, kind)) {
      forward += u.forward;
      backward += u.backward;
    }
    EXPECT_EQ(forward + backward, plan.step(kind).flops) << step;
    return std::pair{forward, backward};
  };
  const auto queries = sums(0), backprop = sums(1), both = sums(3);
  EXPECT_EQ(queries.second, 0);
  EXPECT_GT(backprop.second, 1.5 * backprop.first);
  EXPECT_DOUBLE_EQ(both.first, queries.first + backprop.first);
  EXPECT_DOUBLE_EQ(both.second, backprop.second);
  // Two directions of two signs, on samples of half the length.
  EXPECT_NEAR(queries.first / backprop.first, 4 * 0.5, 0.1);
}

}  // namespace
}  // namespace zerostep
