#include "runtime/optim/matrix_optimizer.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <set>

#include "base/noise.h"
#include "offload/newton_schulz.h"
#include "runtime/engine/training_plan.h"
#include "tests/runtime/support/zeroth_order_reference.h"

namespace zerostep::testing {
namespace {

using Type = OptimizerConfig::Type;

std::vector<float> normals(int64_t count, uint64_t seed) {
  std::vector<float> values(static_cast<size_t>(count));
  fill_normal({seed, NoiseTag::Direction, 0, 0}, 0, count, values.data());
  return values;
}

// The iteration is a polynomial in each singular value and leaves the vectors alone: five times s <- 3.4445 s - 4.7750 s^3 + 2.0315 s^5.
TEST(NewtonSchulz, IsItsPolynomialInEverySingularValue) {
  for (const auto& [rows, columns] : {std::pair<int64_t, int64_t>{7, 7}, {5, 33}, {41, 6}, {1, 9}, {9, 1}, {64, 48}, {1, 1}}) {
    std::vector<float> x = normals(rows * columns, static_cast<uint64_t>(rows * 100 + columns));
    const at::Tensor before = at::from_blob(x.data(), {rows, columns}).to(at::kDouble).clone();
    std::vector<float> scratch(static_cast<size_t>(newton_schulz_scratch(rows, columns)), NAN);
    newton_schulz(x.data(), rows, columns, scratch.data());
    auto [u, s, vt] = at::linalg_svd(before, false);
    s = s / (before.norm() + 1e-7);
    for (int i = 0; i < 5; ++i) s = 3.4445 * s - 4.7750 * s.pow(3) + 2.0315 * s.pow(5);
    const at::Tensor expected = u.matmul(at::diag(s)).matmul(vt), found = at::from_blob(x.data(), {rows, columns}).to(at::kDouble);
    // Rounding on the way in grows by the slopes' product, 3.4445^5 = 485, at most.
    EXPECT_LT((found - expected).norm().item<double>(), 485 * 6e-8 * expected.norm().item<double>() + 1e-6) << rows << " x " << columns;
  }
}

TEST(NewtonSchulz, OfNothingIsNothing) {
  std::vector<float> x(12, 0.0f), scratch(static_cast<size_t>(newton_schulz_scratch(3, 4)));
  newton_schulz(x.data(), 3, 4, scratch.data());
  EXPECT_EQ(x, std::vector<float>(12, 0.0f));
}

TrainingCase matrix_case(Type type, int stage, int ranks) {
  TrainingCase test = TrainingCase::tiny();
  test.config.optimizer.type = type;
  test.config.optimizer.type_name = type == Type::Muon ? "Muon" : "MuDaMW";
  test.config.optimizer.lr = 5e-3;
  test.config.optimizer.eps = type == Type::Muon ? 1e-8 : 1e-6;
  test.config.optimizer.momentum = 0.9;
  test.config.optimizer.nesterov = true;
  test.config.gradient_clipping = 0;
  test.config.zero.stage = stage;
  if (ranks == 3) test.global_batch = 12;
  if (ranks == 7) test.global_batch = 14;
  test.set_micro_batch(test.global_batch / ranks, ranks);
  return test;
}

// GPT-2 stores [in, out]: the MLP's first matrix makes four values of one, its second the reverse, and only the first is scaled up.
TEST(MatrixOptimizer, TheAspectIsOfWhatAMatrixDoes) {
  TrainingCase test = matrix_case(Type::Muon, 0, 1);
  test.model.n_inner = 4 * test.model.n_embd;
  test.config.optimizer.weight_decay = 0;
  test.steps = 1;
  const TrainingOutcome run = run_engine_threads(test, 1);
  const auto first = first_values(test);
  size_t at = 0, found = 0;
  const auto model = make_gpt2(test.model);
  for (const UnitInfo& unit : model->units())
    for (const ParameterInfo& p : unit.parameters) {
      double squares = 0;
      for (size_t i = 0; i < first[at].size(); ++i)
        squares += std::pow((static_cast<double>(run.parameters[at][i]) - static_cast<double>(first[at][i])) / test.config.optimizer.lr, 2);
      ++at;
      const bool up = p.name.ends_with("mlp.c_fc.weight"), down = p.name.ends_with("mlp.c_proj.weight");
      if (!up && !down) continue;
      ++found;
      EXPECT_FALSE(p.out_by_in);
      // Five iterations leave singular values of 0.68 to 1.13; both matrices have n_embd of them.
      const double orthogonal = std::sqrt(squares / static_cast<double>(test.model.n_embd)) / (up ? 2 : 1);
      EXPECT_GT(orthogonal, 0.68) << p.name;
      EXPECT_LT(orthogonal, 1.13) << p.name;
    }
  EXPECT_EQ(found, static_cast<size_t>(2 * test.model.n_layer));
}

TEST(MatrixAssignment, EveryMatrixHasOneOwnerAndCostsAreEven) {
  Gpt2Options options;
  options.n_layer = 12;
  options.n_embd = 768;
  options.n_head = 12;
  options.n_positions = 1024;
  options.vocab_size = 50257;
  const auto model = make_gpt2(options);
  const auto objective = make_cross_entropy();
  for (const int stage : {0, 1, 3})
    for (const int ranks : {1, 2, 4, 7}) {
      TrainingCase test = matrix_case(Type::Muon, stage, ranks);
      test.config.data.sequence_length = 1024;
      const TrainingPlan plan = plan_training(test.config, *model, *objective, ranks);
      const MatrixAssignment& assignment = plan.any_step().matrices;
      ASSERT_EQ(assignment.parameters.size(), 48u);  // four a block; embeddings and head are not among them
      std::vector<double> load(static_cast<size_t>(ranks), 0.0);
      for (const AssignedParameter& p : assignment.parameters) load[static_cast<size_t>(p.owner)] += update_flops(p);
      EXPECT_LT(*std::max_element(load.begin(), load.end()), 1.12 * std::accumulate(load.begin(), load.end(), 0.0) / ranks) << ranks;
      std::set<int> seen;
      std::vector<std::set<std::pair<int64_t, int64_t>>> states(static_cast<size_t>(ranks));
      for (const auto& round : assignment.rounds) {
        std::vector<int> in_waves;
        for (const auto& wave : round.waves) in_waves.insert(in_waves.end(), wave.begin(), wave.end());
        EXPECT_EQ(in_waves, round.parameters);
        std::vector<std::set<std::pair<int64_t, int64_t>>> work(static_cast<size_t>(ranks));
        for (const int index : round.parameters) {
          const AssignedParameter& p = assignment.parameters[static_cast<size_t>(index)];
          EXPECT_TRUE(seen.insert(index).second);
          EXPECT_LE(p.work_offset + p.num_elements(), assignment.work_elements);
          EXPECT_LE(p.state_offset + p.num_elements(), assignment.state_elements);
          work[static_cast<size_t>(p.owner)].insert({p.work_offset, p.num_elements()});
          states[static_cast<size_t>(p.owner)].insert({p.state_offset, p.num_elements()});
        }
        for (const auto& of_rank : work)
          for (auto it = of_rank.begin(); it != of_rank.end() && std::next(it) != of_rank.end(); ++it)
            EXPECT_LE(it->first + it->second, std::next(it)->first);
      }
      EXPECT_EQ(seen.size(), 48u);
      for (const auto& of_rank : states)
        for (auto it = of_rank.begin(); it != of_rank.end() && std::next(it) != of_rank.end(); ++it)
          EXPECT_EQ(it->first + it->second, std::next(it)->first);
      EXPECT_EQ(assignment.work_elements, 4 * 768 * 768);
      EXPECT_LE(assignment.result_elements, assignment.work_elements);
    }
}

// What a rank receives over a step, worked out by hand: shards of equal size where a matrix divides evenly.
TEST(MatrixAssignment, GradientsAndResultsMoveOnceEachWay) {
  const auto objective = make_cross_entropy();
  for (const int stage : {0, 1, 2, 3}) {
    TrainingCase test = matrix_case(Type::Muon, stage, 2);
    const auto model = make_gpt2(test.model);
    const TrainingPlan plan = plan_training(test.config, *model, *objective, 2);
    int64_t scattered = 0, gathered = 0, owned = 0, matrices = 0;
    for (const Action& a : plan.any_step().actions) {
      scattered += a.kind == ActionKind::ScatterMatrixUpdates ? a.elements_gathered : 0;
      gathered += a.kind == ActionKind::GatherMatrices ? a.elements_gathered : 0;
    }
    int64_t mine_of_all = 0, mine_of_owned = 0;
    for (const AssignedParameter& p : plan.any_step().matrices.parameters) {
      matrices += p.num_elements();
      int64_t mine = 0;
      for (const FlatLayout::Piece& piece : plan.layout.groups[static_cast<size_t>(p.group)].layout.pieces(0))
        mine += piece.parameter == p.parameter ? piece.count : 0;
      mine_of_all += mine;
      if (p.owner == 0) {
        owned += p.num_elements();
        mine_of_owned += mine;
      }
    }
    EXPECT_EQ(scattered, stage == 0 ? matrices - owned : mine_of_all - mine_of_owned) << "stage " << stage;
    EXPECT_EQ(gathered, stage == 0 ? 0 : owned - mine_of_owned) << "stage " << stage;
    EXPECT_GT(owned, matrices / 3);
  }
}

void expect_close(const TrainingOutcome& found, const TrainingOutcome& expected, const TrainingCase& test, double tolerance = 1e-3) {
  for (size_t s = 0; s < expected.losses.size(); ++s)
    EXPECT_NEAR(found.losses[s].value() / expected.losses[s].value(), 1, 1e-5) << "step " << s;
  EXPECT_LT(relative_difference(found.parameters, expected.parameters, first_values(test)), tolerance);
  EXPECT_EQ(found.last.elements_gathered, found.planned_gathered);
  EXPECT_EQ(found.last.elements_reduced, found.planned_reduced);
  EXPECT_NEAR(static_cast<double>(found.planned_peak) / static_cast<double>(found.measured_peak), 1, 0.05);
}

TEST(MatrixOptimizer, EveryStageAndWorldSizeIsTheFormulaOnTheWholeMatrix) {
  for (const Type type : {Type::Muon, Type::MuDaMW})
    for (const int stage : {0, 1, 2, 3})
      for (const int ranks : {1, 2, 3, 4}) {
        SCOPED_TRACE(fmt::format("{} stage {} ranks {}", type == Type::Muon ? "Muon" : "MuDaMW", stage, ranks));
        const TrainingCase test = matrix_case(type, stage, ranks);
        expect_close(run_engine_threads(test, ranks), run_reference(test, ranks), test);
      }
}

TEST(MatrixOptimizer, OptionsAreTheirFormulas) {
  const auto expect = [](const char* what, Type type, const std::function<void(OptimizerConfig&)>& change, double tolerance = 1e-3) {
    for (const int ranks : {1, 3}) {
      SCOPED_TRACE(fmt::format("{} ranks {}", what, ranks));
      TrainingCase test = matrix_case(type, ranks == 1 ? 0 : 3, ranks);
      const auto before = run_reference(test, ranks).parameters;
      change(test.config.optimizer);
      const TrainingOutcome reference = run_reference(test, ranks);
      EXPECT_GT(relative_difference(reference.parameters, before, first_values(test)), 10 * tolerance);
      expect_close(run_engine_threads(test, ranks), reference, test, tolerance);
    }
  };
  expect("no nesterov", Type::Muon, [](OptimizerConfig& c) { c.nesterov = false; });
  expect("rms of AdamW", Type::Muon, [](OptimizerConfig& c) { c.match_rms_adamw = true; });
  // The rates' ratio decides how much of the whole update is what rounding makes of vanishing gradients.
  expect(
      "two learning rates", Type::Muon,
      [](OptimizerConfig& c) {
        c.muon_lr_factor = 2;
        c.adam_lr_factor = 0.25;
      },
      1e-2);
  expect("all matrices", Type::Muon, [](OptimizerConfig& c) { c.no_muon.emplace(); });
  // Gradients of the keys' biases are zero but for rounding, and it is their signs that count.
  expect(
      "cautious", Type::MuDaMW, [](OptimizerConfig& c) { c.cautious = true; }, 1e-2);
  expect("uncorrected", Type::MuDaMW, [](OptimizerConfig& c) { c.bias_correction = false; });
  expect("decay", Type::MuDaMW, [](OptimizerConfig& c) { c.weight_decay = 3; });
}

TEST(MatrixOptimizer, SixteenBitWeightsFollowTheirMasters) {
  for (const Type type : {Type::Muon, Type::MuDaMW})
    for (const int stage : {0, 2, 3}) {
      SCOPED_TRACE(fmt::format("stage {}", stage));
      TrainingCase test = matrix_case(type, stage, 2);
      test.config.precision.compute = DType::BF16;
      const TrainingOutcome found = run_engine_threads(test, 2), expected = run_reference(test, 2);
      for (size_t s = 0; s < expected.losses.size(); ++s) EXPECT_NEAR(found.losses[s].value() / expected.losses[s].value(), 1, 1e-3);
      // Gradients differ by roundings to bf16, 2^-9 of their values; each of the five iterations multiplies the smaller singular values,
      // and what is wrong in them, by up to 3.44: a few percent of an update whose larger values stay.
      EXPECT_LT(relative_difference(found.parameters, expected.parameters, first_values(test)), 0.04);
    }
}

// Bucket and slice sizes change which rank holds what, and no bit of a matrix's update.
TEST(MatrixOptimizer, HowShardsAreCutChangesNoBit) {
  TrainingCase test = matrix_case(Type::MuDaMW, 2, 2);
  const TrainingOutcome first = run_engine_threads(test, 2);
  for (const bool overlap : {false, true}) {
    TrainingCase other = test;
    other.config.zero.overlap_comm = overlap;
    other.config.zero.reduce_bucket_size = 300;
    other.config.zero.round_robin_gradients = true;
    EXPECT_EQ(run_engine_threads(other, 2).parameters, first.parameters);
  }
}

// Owners hold the matrices' state, so it is shared out at stage 0, too.
TEST(MatrixOptimizer, StateOfMatricesIsSharedOutAtEveryStage) {
  const auto objective = make_cross_entropy();
  for (const int stage : {0, 3}) {
    const TrainingCase test = matrix_case(Type::MuDaMW, stage, 4);
    const auto model = make_gpt2(test.model);
    const TrainingPlan plan = plan_training(test.config, *model, *objective, 4);
    int64_t matrices = 0, largest = 0, planned = 0;
    for (const AssignedParameter& p : plan.any_step().matrices.parameters) {
      matrices += p.num_elements();
      largest = std::max(largest, p.num_elements());
    }
    for (const PlannedBuffer& b : plan.any_step().buffers) planned += b.name == "optimizer state of whole matrices" ? b.bytes : 0;
    EXPECT_LE(planned, 2 * 4 * (matrices / 4 + largest) + 64) << "stage " << stage;
    EXPECT_GE(planned, 2 * 4 * matrices / 4);
  }
}

ZerothOrderCase zeroth_order_case(Type type, ZerothOrderCase::Mode mode) {
  ZerothOrderCase test = ZerothOrderCase::tiny(mode);
  const OptimizerConfig like = matrix_case(type, 0, 1).config.optimizer;
  test.config.optimizer = like;
  test.config.gradient_clipping = 0;
  return test;
}

// The owner makes the noise of its matrices again: the estimate moves nowhere, results once.
TEST(MatrixOptimizer, EstimatesAreMadeByTheOwner) {
  for (const Type type : {Type::Muon, Type::MuDaMW})
    for (const auto mode : {StepConfig::Mode::ZerothOrder, StepConfig::Mode::Calibrate, StepConfig::Mode::Alternating}) {
      ZerothOrderCase test = zeroth_order_case(type, mode);
      test.steps = 4;
      test.config.step.separate_state = mode == StepConfig::Mode::Alternating;
      const ZerothOrderOutcome reference = run_zeroth_order_reference(test);
      for (const auto& [stage, ranks] : {std::pair{0, 1}, {0, 2}, {1, 2}, {2, 4}, {3, 2}}) {
        SCOPED_TRACE(fmt::format("{} stage {} ranks {}", test.name(), stage, ranks));
        test.config.zero.stage = stage;
        const ZerothOrderOutcome found = run_zeroth_order_threads(test, ranks);
        expect_like(found, reference, test, {.loss = 1e-5, .scalars = 2e-3, .parameters = 5e-3});
        EXPECT_EQ(found.last.elements_gathered, found.planned_gathered);
        EXPECT_NEAR(static_cast<double>(found.planned_peak) / static_cast<double>(found.measured_peak), 1, 0.05);
      }
    }
}

TEST(MatrixOptimizer, InstructedStepsBlendTheGradientThatMovesToTheOwner) {
  ZerothOrderCase test = zeroth_order_case(Type::MuDaMW, StepConfig::Mode::Instruct);
  test.steps = 4;
  test.config.step.blend = 0.5;
  const ZerothOrderOutcome one = run_zeroth_order_threads(test, 1);
  for (const int stage : {0, 1, 3}) {
    test.config.zero.stage = stage;
    expect_like(run_zeroth_order_threads(test, 2), one, test, {.loss = 1e-5, .scalars = 2e-3, .parameters = 5e-3});
  }
}

}  // namespace
}  // namespace zerostep::testing
