#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <map>

#include "base/format.h"
#include "base/nth.h"
#include "runtime/engine/training_cost.h"
#include "runtime/report/plan_report.h"
#include "tests/runtime/support/zeroth_order_case.h"

// What the actions of a plan say of their bytes and operations, against the model's sizes.
namespace zerostep::testing {
namespace {

using Mode = StepConfig::Mode;

TrainingPlan plan_of(ZerothOrderCase& test, int ranks) {
  test.share_over(ranks);
  return plan_training(test.config, *make_gpt2(test.model), *make_cross_entropy(), ranks);
}

ZerothOrderCase case_of(Mode mode, int stage, DType type = DType::F32) {
  ZerothOrderCase test = ZerothOrderCase::tiny(mode);
  test.config.zero.stage = stage;
  test.config.precision.compute = type;
  return test;
}

int64_t bytes_of(const Plan& plan, ActionKind kind) {
  int64_t bytes = 0;
  for (const Action& a : plan.actions) bytes += a.kind == kind ? a.bytes : 0;
  return bytes;
}

// Of all elements, padded, as they move and are updated: of those of a 16-bit group, and of the others.
int64_t sum_of(const TrainingPlan& plan, int64_t bytes_of_half, int64_t bytes_of_float) {
  int64_t sum = 0;
  for (const FlatGroup& g : plan.layout.groups) sum += g.full_elements() * (is_16bit(g.type) ? bytes_of_half : bytes_of_float);
  return sum;
}

// Queries and an optimizer without state: what rests in files is read once for the step and, updated, written once, in blocks of the disk.
TEST(ActionWork, FilesMoveOnceEachWayInAStepOfQueries) {
  ZerothOrderCase test = case_of(Mode::ZerothOrder, 3);
  test.config.optimizer.type = OptimizerConfig::Type::SGD;
  test.config.zero.stage3_param_persistence_threshold = 0;
  const TrainingPlan resident = plan_of(test, 2);
  EXPECT_EQ(resident.any_step().file_bytes_read + resident.any_step().file_bytes_written, 0);
  test.config.zero.offload_param.tier = Tier::File;
  const TrainingPlan plan = plan_of(test, 2);
  constexpr int64_t kBlock = 4096;
  int64_t rests = 0;
  for (const FlatGroup& g : plan.layout.groups) rests += round_up(num_bytes(g.shard_elements(), g.type), kBlock);
  EXPECT_EQ(plan.any_step().file_bytes_written, rests);
  EXPECT_EQ(plan.any_step().file_bytes_read, rests);
}

TEST(ActionWork, CollectivesCountTheBytesThatArrive) {
  for (const DType type : {DType::F32, DType::BF16})
    for (const DType message : {DType::F32, DType::BF16}) {
      SCOPED_TRACE(fmt::format("{} parameters, {} messages", name_of(type), name_of(message)));
      const auto plan_at = [&](int stage) {
        ZerothOrderCase test = case_of(Mode::FirstOrder, stage, type);
        test.config.communication_data_type = message;
        return plan_of(test, 2);
      };
      const int64_t message_size = message == DType::F32 ? 4 : 2;
      // Two ranks: half of everything arrives.
      const TrainingPlan owned = plan_at(1), sharded = plan_at(3), whole = plan_at(0);
      EXPECT_EQ(bytes_of(owned.any_step(), ActionKind::Reduce), sum_of(owned, message_size, message_size) / 2);
      EXPECT_EQ(bytes_of(owned.any_step(), ActionKind::GatherUpdated), sum_of(owned, 2, 4) / 2);
      int64_t gathered = 0;
      for (const Action& a : sharded.any_step().actions) {
        if (a.kind != ActionKind::Gather) continue;
        const FlatGroup& group = sharded.layout.group(a.group);
        gathered += group.shard_elements() * (is_16bit(group.type) ? 2 : 4);
      }
      EXPECT_EQ(bytes_of(sharded.any_step(), ActionKind::Gather), gathered);
      // Sums that are whole everywhere: twice as much, and of 16-bit messages the sums travel in fp32.
      EXPECT_EQ(bytes_of(whole.any_step(), ActionKind::Reduce), sum_of(whole, message_size + 4, message_size + 4) / 2);
      EXPECT_EQ(bytes_of(whole.any_step(), ActionKind::Agree), 8 * (2 + 5));
    }
}

// By hand, of an element that this rank updates: what its update reads and writes.
TEST(ActionWork, UpdatesCountWhatTheyReadAndWrite) {
  struct Case {
    Mode mode;
    DType type;
    bool separate_state;
    OptimizerConfig::Type optimizer;
    int64_t gradient, state;
  };
  using Type = OptimizerConfig::Type;
  const Case cases[] = {{Mode::FirstOrder, DType::F32, false, Type::AdamW, 4, 4 * 4},
                        {Mode::FirstOrder, DType::BF16, false, Type::AdamW, 4, 4 * 4},
                        {Mode::ZerothOrder, DType::F32, false, Type::AdamW, 0, 4 * 4},
                        {Mode::ZerothOrder, DType::F32, false, Type::SGD, 0, 0},
                        {Mode::Calibrate, DType::F32, true, Type::AdamW, 0, 4 * 4}};
  for (const Case& c : cases)
    for (const int stage : {0, 2, 3}) {
      ZerothOrderCase test = case_of(c.mode, stage, c.type);
      test.config.optimizer.type = c.optimizer;
      test.config.optimizer.momentum = 0;
      test.config.step.separate_state = c.separate_state;
      const TrainingPlan plan = plan_of(test, 2);
      // Masters are read and written, and 16-bit parameters written; others are read and written.
      const int64_t all = sum_of(plan, c.gradient + c.state + 2 * 4 + 2, c.gradient + c.state + 2 * 4);
      EXPECT_EQ(bytes_of(plan.any_step(), ActionKind::Update), all / (stage == 0 ? 1 : 2))
          << name_of(plan.steps.front().kind) << " stage " << stage;
    }
}

// Two operations a weight and token of a block's matrices, and those of causal attention.
double block_flops(const ZerothOrderCase& test, double tokens) {
  const double width = static_cast<double>(test.model.n_embd), inner = static_cast<double>(test.model.n_inner);
  return 2 * tokens * width * (4 * width + 2 * inner) + 2 * tokens * width * static_cast<double>(test.sequence + 1);
}

TEST(ActionWork, VisitsCountForwardOnceAndBackwardTwice) {
  ZerothOrderCase test = case_of(Mode::Calibrate, 0);
  test.config.step.monitor_interval = 2;
  const TrainingPlan plan = plan_of(test, 1);
  const int64_t micro_batches = test.config.batch.accumulation_steps;
  const double tokens = static_cast<double>(ZerothOrderCase::kMicroBatch * test.sequence), block = block_flops(test, tokens);
  for (const auto& [kind, step] : plan.steps) {
    std::map<int, double> forward, backward, queries;
    double sum = 0;
    for (const Action& a : step.actions) {
      if (a.kind != ActionKind::Visit) {
        EXPECT_EQ(a.flops, 0) << describe(plan.layout, step, a);
        continue;
      }
      const Visit& visit = step.visit(a.visit);
      (visit.probes ? queries : visit.kind == VisitKind::Backward ? backward : forward)[visit.unit] += a.flops;
      sum += a.flops;
    }
    EXPECT_EQ(step.flops, sum);
    for (int unit = 1; unit <= test.model.n_layer; ++unit) {
      if (kind.backprop) {
        EXPECT_EQ(forward[unit], static_cast<double>(micro_batches) * block);
        EXPECT_EQ(backward[unit], 2 * forward[unit]);
      }
      // Both signs of two directions.
      if (kind.queries) {
        EXPECT_EQ(queries[unit], 4 * static_cast<double>(test.config.step.query_batch.accumulation_steps) * block);
      }
    }
  }
}

// Where training begins at a block nothing asks for the gradient of its input, and the units before it have no backward.
TEST(ActionWork, TheLastBackwardHasNoGradientOfItsInput) {
  ZerothOrderCase test = case_of(Mode::FirstOrder, 0);
  test.config.model.trainable = {"transformer.h.1.*", "transformer.h.2.*"};
  const TrainingPlan plan = plan_of(test, 1);
  const Plan& step = plan.any_step();
  std::map<int, double> forward, backward;
  for (const Action& a : step.actions)
    if (a.kind == ActionKind::Visit)
      (step.visit(a.visit).kind == VisitKind::Backward ? backward : forward)[step.visit(a.visit).unit] += a.flops;
  EXPECT_EQ(backward.count(1), 0u);
  EXPECT_EQ(backward[2], forward[2]);
  EXPECT_EQ(backward[3], 2 * forward[3]);
}

// A GPU's loss in parts of the vocabulary keeps the logits of one part; the backward works out those of all others again. Queries have no
// backward.
TEST(ActionWork, ALossInPartsWorksOutLogitsAgain) {
  ZerothOrderCase test = case_of(Mode::Calibrate, 0);
  test.config.run.device = "cuda";
  test.config.step.monitor_interval = 2;
  test.model.vocab_size = 300;
  test.share_over(1);
  const int64_t tokens = ZerothOrderCase::kMicroBatch * test.sequence;
  // Columns come in multiples of 64: 300 are 4 parts of 64 and one of 44, or one.
  for (const auto& [logits_together, repeated_columns] : {std::pair<int64_t, int64_t>{64 * tokens, 256}, {300 * tokens + 64 * tokens, 0}}) {
    const auto model = make_gpt2(test.model);
    const auto objective = make_factored_cross_entropy(logits_together);
    const TrainingPlan plan = plan_training(test.config, *model, *objective, 1);
    const int head = test.model.n_layer + 1;
    const double column = 2.0 * static_cast<double>(tokens * test.model.n_embd);  // of the forward
    for (const auto& [kind, step] : plan.steps)
      for (const Action& a : step.actions) {
        if (a.kind != ActionKind::Visit || step.visit(a.visit).unit != head) continue;
        const Visit& visit = step.visit(a.visit);
        const double columns = visit.kind == VisitKind::Backward ? 2 * 300 + static_cast<double>(repeated_columns) : 300;
        EXPECT_EQ(a.flops, visit.branches * visit.micro_batches * columns * column) << describe(plan.layout, step, a);
      }
  }
}

// Five iterations of three products on the smaller side, and some work an element; each round waits for the rank with most. The owner reads
// a gradient, reads and writes the momentum and writes the update; who holds fp32 weights reads it, and reads and writes them.
TEST(ActionWork, RoundsOfMatricesCountTheirProductsAndBytes) {
  for (const int ranks : {1, 2}) {
    ZerothOrderCase test = case_of(Mode::FirstOrder, 0);
    test.config.optimizer.type = OptimizerConfig::Type::Muon;
    const TrainingPlan plan = plan_of(test, ranks);
    const Plan& step = plan.any_step();
    int rounds = 0;
    int64_t scattered = 0, applied = 0;
    for (const Action& a : step.actions) {
      if (a.kind == ActionKind::ScatterMatrixUpdates) {
        EXPECT_EQ(a.bytes, 4 * a.elements_gathered);
        scattered += a.bytes;
      }
      if (a.kind == ActionKind::ApplyMatrixUpdates) applied += a.bytes;
      if (a.kind != ActionKind::MakeMatrixUpdates) continue;
      ++rounds;
      std::vector<double> by_rank(static_cast<size_t>(ranks), 0.0);
      std::vector<int64_t> elements(static_cast<size_t>(ranks), 0);
      for (const int index : nth(step.matrices.rounds, a.round).parameters) {
        const AssignedParameter& p = nth(step.matrices.parameters, index);
        const double small = static_cast<double>(std::min(p.rows, p.columns)), large = static_cast<double>(std::max(p.rows, p.columns));
        nth(by_rank, p.owner) +=
            5 * (2 * small * small * large + 2 * small * small * small + 2 * small * small * large) + 20 * small * large;
        nth(elements, p.owner) += p.num_elements();
      }
      EXPECT_EQ(a.flops, *std::max_element(by_rank.begin(), by_rank.end())) << ranks;
      EXPECT_EQ(a.bytes, 4 * (1 + 2 + 1) * *std::max_element(elements.begin(), elements.end())) << ranks;
    }
    EXPECT_GT(rounds, 0);
    int64_t all = 0, of_others = 0;
    for (const AssignedParameter& p : step.matrices.parameters) {
      all += p.num_elements();
      of_others += p.owner == 0 ? 0 : p.num_elements();
    }
    EXPECT_EQ(applied, 4 * (1 + 2) * all);
    EXPECT_EQ(scattered, 4 * of_others);
  }
}

// By hand, of the visits of one block in a step of two micro-batches, for an element of `rest` bytes that computes with `compute` bytes; a
// plain copy, where these differ, takes `plain`.
TEST(ActionWork, VisitsCountTheBytesOfWeightsAndGradients) {
  using Bytes = std::vector<int64_t>;
  struct Case {
    const char* name;
    Mode mode;
    DType type;
    std::function<void(ZerothOrderCase&)> change;
    std::function<Bytes(int64_t rest, int64_t compute, int64_t plain)> bytes;
  };
  const auto forward_estimator = [](ZerothOrderCase& c) {
    c.config.step.queries_per_pass = 1;
    c.config.step.estimator = StepConfig::Estimator::Forward;
  };
  const std::vector<Case> cases = {
      // Forward and backward read the weights; the second micro-batch adds to the gradient.
      {"backprop",
       Mode::FirstOrder,
       DType::F32,
       {},
       [](int64_t, int64_t, int64_t) {
         return Bytes{4, 4 + 4, 4, 4 + 8};
       }},
      {"16 bits",
       Mode::FirstOrder,
       DType::BF16,
       {},
       [](int64_t, int64_t c, int64_t) {
         return Bytes{c, c + 4, c, c + 8};
       }},
      {"recompute", Mode::FirstOrder, DType::F32, [](ZerothOrderCase& c) { c.config.number_checkpoints = 2; },
       [](int64_t, int64_t, int64_t) { return Bytes{4, 4, 4 + 4, 4, 4, 4 + 8}; }},
      // Both signs of two directions: each direction is one forward of tiles, or all of them are one of factors.
      {"tiles", Mode::ZerothOrder, DType::F32, {}, [](int64_t, int64_t, int64_t) { return Bytes{2 * 2 * 4}; }},
      {"low rank", Mode::ZerothOrder, DType::F32,
       [](ZerothOrderCase& c) { c.config.step.perturbation = StepConfig::Perturbation::LowRank; },
       [](int64_t, int64_t, int64_t) { return Bytes{2 * 4}; }},
      // Weights that rest in fp32: a plain copy on the way in, two copies a direction, four forwards.
      {"copies",
       Mode::ZerothOrder,
       DType::BF16,
       {},
       [](int64_t r, int64_t c, int64_t plain) { return Bytes{plain + 2 * (r + 2 * c) + 2 * 4 * c}; }},
      // One-sided: the first pass probes the plain weights as well.
      {"forward differences", Mode::ZerothOrder, DType::BF16, forward_estimator,
       [](int64_t r, int64_t c, int64_t plain) {
         return Bytes{plain + (r + c) + 2 * 2 * c, plain + (r + c) + 2 * c};
       }},
      {"batches of their own", Mode::ZerothOrder, DType::BF16,
       [&](ZerothOrderCase& c) {
         forward_estimator(c);
         c.config.step.queries_per_pass = 2;
         c.config.step.independent_data = true;
       },
       [](int64_t r, int64_t c, int64_t plain) { return Bytes{2 * plain + 2 * (r + c) + 2 * 4 * c}; }},
      // Backprop, then copies that are made of its gradient.
      {"instructed", Mode::Instruct, DType::F32, {}, [](int64_t, int64_t, int64_t) {
         return Bytes{4, 4 + 4, 4, 4 + 8, 2 * (4 + 4 + 2 * 4) + 2 * 4 * 4};
       }}};
  for (const Case& c : cases) {
    SCOPED_TRACE(c.name);
    ZerothOrderCase test = case_of(c.mode, 0, c.type);
    test.global_batch = 2 * ZerothOrderCase::kMicroBatch;
    test.config.step.queries_per_pass = 2;
    if (c.change) c.change(test);
    const TrainingPlan plan = plan_of(test, 1);
    const auto of_kind = std::find_if(plan.steps.begin(), plan.steps.end(),
                                      [&](const TrainingPlan::Step& s) { return s.kind.instructed == (c.mode == Mode::Instruct); });
    ASSERT_NE(of_kind, plan.steps.end());
    constexpr int kBlock = 1;
    Bytes found, expected;
    for (const Action& a : of_kind->plan.actions)
      if (a.kind == ActionKind::Visit && of_kind->plan.visit(a.visit).unit == kBlock) found.push_back(a.bytes);
    bool is_16bit_anywhere = false;
    for (const int g : plan.layout.used_by(kBlock)) {
      const FlatGroup& group = plan.layout.group(g);
      const int64_t rest = is_16bit(group.type) ? 2 : 4, compute = is_16bit(group.compute_type) ? 2 : 4;
      is_16bit_anywhere |= compute == 2;
      Bytes of_element = c.bytes(rest, compute, rest == compute ? 0 : rest + compute);
      expected.resize(of_element.size());
      for (size_t i = 0; i < expected.size(); ++i) expected[i] += group.full_elements() * of_element[i];
    }
    EXPECT_EQ(found, expected);
    EXPECT_EQ(is_16bit_anywhere, c.type == DType::BF16);
  }
}

// The list that is printed says each action's numbers.
TEST(ActionWork, IsPrintedWithTheActions) {
  ZerothOrderCase test = case_of(Mode::FirstOrder, 1);
  const TrainingPlan plan = plan_of(test, 2);
  const std::string text = plan_actions_text(plan);
  EXPECT_NE(text.find("agree on loss and gradient; reduces 7; 56 bytes"), std::string::npos) << text;
  int64_t elements = 0;
  for (const int g : plan.layout.used_by(1)) elements += plan.layout.group(g).full_elements();
  const std::string forward =
      fmt::format("forward h.0 (micro-batch 0); {} bytes; {} operations", grouped(4 * elements), human_count(block_flops(test, 2.0 * 12)));
  EXPECT_NE(text.find(forward), std::string::npos) << text;
}

// A step of two parts holds what the higher of them does: queries come when backprop holds nothing.
TEST(ActionWork, AStepOfTwoPartsNeedsTheHigherOfThem) {
  for (const auto& [sequence, query_sequence] : {std::pair{12, 4}, std::pair{3, 12}}) {
    const auto peak_of = [&](Mode mode, int64_t bp_interval, int64_t monitor_interval) {
      ZerothOrderCase test = case_of(mode, 0);
      test.config.step.bp_interval = bp_interval;
      test.config.step.monitor_interval = monitor_interval;
      test.config.data.sequence_length = sequence;
      test.config.step.query_sequence_length = query_sequence;
      const TrainingPlan plan = plan_of(test, 1);
      const PlanCost cost = training_cost(test.config, plan, *make_gpt2(test.model), *make_cross_entropy());
      return std::pair{cost.activation_peak_bytes, cost.peak_at};
    };
    const auto queries = peak_of(Mode::ZerothOrder, 0, 0), backprop = peak_of(Mode::FirstOrder, 0, 0);
    EXPECT_EQ(queries > backprop, query_sequence > sequence);
    EXPECT_EQ(peak_of(Mode::Calibrate, 2, 0), std::max(queries, backprop));
    EXPECT_EQ(peak_of(Mode::Calibrate, 1, 1), std::max(queries, backprop));
    EXPECT_EQ(peak_of(Mode::Calibrate, 1, 0), backprop);
  }
}

}  // namespace
}  // namespace zerostep::testing
