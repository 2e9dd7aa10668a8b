#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "models/gpt2/gpt2.h"
#include "runtime/checkpoint/checkpoint_writer.h"
#include "runtime/checkpoint/run_state.h"
#include "runtime/checkpoint/shard_image.h"
#include "runtime/memory/memory_meter.h"
#include "sharding/local_ranks.h"
#include "tests/runtime/support/zeroth_order_case.h"
#include "tests/support/scratch_folder.h"

// N steps are k steps, a checkpoint, and N - k steps of another engine that began with it.
namespace zerostep::testing {
namespace {

namespace fs = std::filesystem;
using Mode = StepConfig::Mode;
using Parameters = std::vector<std::vector<float>>;

struct Outcome {
  std::vector<double> losses;
  Parameters first, last;  // values before the first and after the last step
  double loss_scale = 1;
};

Parameters parameters_of(Engine& engine, const ModelDefinition& model) {
  Parameters out;
  for (size_t u = 0; u < model.units().size(); ++u)
    for (size_t p = 0; p < model.units()[u].parameters.size(); ++p)
      engine.read_parameter(static_cast<int>(u), static_cast<int>(p), out.emplace_back());
  return out;
}

// Steps [from, to) on `ranks` threads, from the checkpoint in `load` unless it is empty; `save`: leaves one there at the end.
Outcome run(ZerothOrderCase test, int ranks, int from, int to, const std::string& load, const std::string& save) {
  test.share_over(ranks);
  std::vector<Outcome> outcomes(static_cast<size_t>(ranks));
  run_local_ranks(ranks, {.timeout_seconds = 60}, [&](Communicator world) {
    install_metered_allocator();
    at::set_num_threads(1);
    Outcome& out = outcomes[static_cast<size_t>(world.rank())];
    const auto model = make_gpt2(test.model);
    const auto objective = make_cross_entropy();
    const TrainingPlan plan = plan_training(test.config, *model, *objective, world.size());
    std::optional<CheckpointReader> reader;
    ParameterReader initial = [&](const ParameterInfo& info, int64_t begin, int64_t count, float* values) {
      initial_values(info, test.config.seed, begin, count, values);
    };
    if (!load.empty()) {
      reader.emplace(latest_checkpoint(load));
      EXPECT_EQ(reader->manifest().step, from);
      reader->open();
      check_holds(*reader, *model, &plan);
      initial = zerostep::parameters_of(*reader);
    }
    Engine engine(test.config, *model, *objective, plan, initial, world);
    if (reader) restore(engine, *reader);
    out.first = parameters_of(engine, *model);
    for (int step = from; step < to; ++step) {
      const StepResult result = engine.train_step(step, test.batches(step, world.rank(), world.size()));
      out.losses.push_back(result.loss.value());
      out.loss_scale = result.loss_scale;
    }
    out.last = parameters_of(engine, *model);
    if (save.empty()) return;
    CheckpointWriter writer({.folder = save, .rank = world.rank(), .ranks = world.size()}, owned_state(plan, world.rank()),
                            [&](std::span<std::byte* const> targets) { engine.copy_state(targets); });
    const auto meet = [&](const char* label) {
      double nothing = 0;
      world.all_reduce_scalars({&nothing, 1}, ReduceOp::Sum, label);
    };
    meet("writers");
    Manifest manifest;
    manifest.step = to;
    manifest.engine = progress_json(engine.progress());
    writer.save(manifest);
    writer.finish();
    meet("written");
    EXPECT_EQ(writer.times().bytes, ShardImage::file_bytes(owned_state(plan, world.rank())));
  });
  for (const Outcome& other : outcomes) EXPECT_EQ(other.last, outcomes[0].last);
  return outcomes[0];
}

// Ranks have headers of several lengths: more pieces, longer numbers. The longest file is planned, whoever has it.
TEST(Staging, IsThatOfTheRankWithTheLargestFile) {
  int others = 0;
  for (const int stage : {0, 1, 2, 3})
    for (int ranks = 1; ranks <= 9; ++ranks) {
      ZerothOrderCase test = ZerothOrderCase::tiny(Mode::FirstOrder);
      test.config.zero.stage = stage;
      test.config.run.checkpoint_interval = 1;
      test.config.batch = {ranks, 1, 1};
      const auto model = make_gpt2(test.model);
      const TrainingPlan plan = plan_training(test.config, *model, *make_cross_entropy(), ranks);
      size_t largest = 0, first = 0;
      for (int rank = 0; rank < ranks; ++rank) {
        const ShardImage image(owned_state(plan, rank));
        largest = std::max(largest, image.size());
        if (rank == 0) first = image.size();
      }
      EXPECT_EQ(staging_bytes(test.config, plan), static_cast<int64_t>(largest)) << "stage " << stage << " on " << ranks;
      others += largest > first ? 1 : 0;
    }
  EXPECT_GT(others, 0);
}

class Resume : public ::testing::Test {
 protected:
  // 3 steps and 3 more are 6, to the bit.
  void expect_seamless(const ZerothOrderCase& test, int ranks) {
    fs::remove_all(folder_);
    const Outcome whole = run(test, ranks, 0, 6, "", "");
    const Outcome head = run(test, ranks, 0, 3, "", folder_);
    const Outcome tail = run(test, ranks, 3, 6, folder_, "");
    EXPECT_EQ(tail.first, head.last);
    std::vector<double> losses = head.losses;
    losses.insert(losses.end(), tail.losses.begin(), tail.losses.end());
    EXPECT_EQ(losses, whole.losses);
    EXPECT_EQ(tail.last, whole.last);
    EXPECT_EQ(tail.loss_scale, whole.loss_scale);
    EXPECT_NE(whole.first, whole.last);
  }
  ScratchFolder scratch_;
  const std::string folder_ = scratch_.path("checkpoints");
};

ZerothOrderCase case_of(Mode mode, int stage) {
  ZerothOrderCase test = ZerothOrderCase::tiny(mode);
  test.config.zero.stage = stage;
  test.config.zero.overlap_comm = stage == 3;
  return test;
}

TEST_F(Resume, IsSeamlessInEveryModeAndStage) {
  for (const Mode mode : {Mode::FirstOrder, Mode::ZerothOrder, Mode::Calibrate, Mode::Instruct, Mode::Alternating})
    for (const int stage : {0, 1, 2, 3})
      for (const int ranks : {1, 2, 4}) {
        if (ranks == 1 && stage % 3 != 0) continue;  // one rank holds all at every stage
        SCOPED_TRACE(::testing::Message() << "mode " << static_cast<int>(mode) << " stage " << stage << " ranks " << ranks);
        expect_seamless(case_of(mode, stage), ranks);
      }
}

TEST_F(Resume, IsSeamlessForEveryOptimizerAndPrecision) {
  using Type = OptimizerConfig::Type;
  for (const auto& [type, name] :
       {std::pair{Type::SGD, "SGD"}, {Type::Lion, "Lion"}, {Type::Adam, "Adam"}, {Type::Muon, "Muon"}, {Type::MuDaMW, "MuDaMW"}})
    for (const DType precision : {DType::F32, DType::BF16, DType::F16})
      for (const auto& [stage, ranks] : {std::pair{0, 1}, {1, 2}, {3, 3}}) {
        SCOPED_TRACE(::testing::Message() << name << " " << name_of(precision) << " stage " << stage);
        ZerothOrderCase test = case_of(Mode::FirstOrder, stage);
        test.global_batch = 12;
        test.config.optimizer.type = type;
        test.config.optimizer.type_name = name;
        test.config.optimizer.momentum = 0.9;
        test.config.precision.compute = precision;
        expect_seamless(test, ranks);
      }
}

TEST_F(Resume, AnyTierGoesOnFromAnyOther) {
  const std::string files = folder_ + "-files";
  const auto put = [&](ZerothOrderCase test, Tier tier) {
    test.config.zero.offload_param.tier = test.config.zero.offload_optimizer.tier = tier;
    test.config.zero.offload_param.nvme_paths = test.config.zero.offload_optimizer.nvme_paths = {files};
    return test;
  };
  for (const StepConfig::Mode mode : {StepConfig::Mode::FirstOrder, StepConfig::Mode::ZerothOrder}) {
    ZerothOrderCase test = ZerothOrderCase::tiny(mode);
    test.config.zero.stage = 3;
    test.config.precision.compute = DType::BF16;
    const Outcome whole = run(test, 2, 0, 6, "", "");
    for (const auto& [first, then] : {std::pair{Tier::File, Tier::Device}, {Tier::Device, Tier::File}, {Tier::Host, Tier::File}}) {
      SCOPED_TRACE(fmt::format("mode {}: {} to {}", static_cast<int>(mode), name_of(first), name_of(then)));
      fs::remove_all(folder_);
      const Outcome head = run(put(test, first), 2, 0, 3, "", folder_);
      const Outcome tail = run(put(test, then), 2, 3, 6, folder_, "");
      EXPECT_EQ(tail.first, head.last);
      EXPECT_EQ(tail.last, whole.last);
    }
  }
  fs::remove_all(files);
}

TEST_F(Resume, KeepsStatesApartAndSixteenBitWeightsWithoutMasters) {
  ZerothOrderCase apart = case_of(Mode::Alternating, 2);
  apart.config.step.separate_state = true;
  expect_seamless(apart, 2);
  ZerothOrderCase bare = case_of(Mode::ZerothOrder, 3);
  bare.config.precision.compute = DType::BF16;
  bare.config.step.masters = false;
  expect_seamless(bare, 2);
  ZerothOrderCase frozen = case_of(Mode::FirstOrder, 3);
  frozen.config.model.trainable = {"transformer.h.*"};
  expect_seamless(frozen, 2);
}

// The manifest counts the steps of each kind; calibrate's every second one is backprop's.
TEST_F(Resume, CountsAppliedStepsByWhatMadeThem) {
  run(case_of(Mode::Calibrate, 0), 1, 0, 3, "", folder_);
  run(case_of(Mode::Calibrate, 0), 1, 3, 6, folder_, folder_);
  const CheckpointReader reader(latest_checkpoint(folder_));
  EXPECT_EQ(reader.manifest().engine.at("applied_steps").get<int64_t>(), 6);
  EXPECT_EQ(reader.manifest().engine.at("applied_by_estimate").get<int64_t>(), 3);
  EXPECT_EQ(reader.manifest().engine.at("applied_by_gradient").get<int64_t>(), 3);
  const TrainingProgress progress = progress_of(reader);
  EXPECT_EQ(progress.applied.estimate_steps, 3);
  EXPECT_EQ(progress.applied.gradient_steps, 3);
}

TEST_F(Resume, AnyRanksAndStageGoOnFromAnyOther) {
  struct Place {
    int ranks, stage;
  };
  std::vector<Place> all;
  for (const int ranks : {1, 2, 3, 4})
    for (const int stage : {0, 1, 2, 3}) all.push_back({ranks, stage});
  for (const Mode mode : {Mode::FirstOrder, Mode::ZerothOrder}) {
    const auto test = [&](const Place& place) {
      ZerothOrderCase out = case_of(mode, place.stage);
      out.global_batch = 24;
      return out;
    };
    const Outcome whole = run(test({1, 0}), 1, 0, 5, "", "");
    for (size_t i = 0; i < all.size(); ++i) {
      fs::remove_all(folder_);
      const Outcome head = run(test(all[i]), all[i].ranks, 0, 3, "", folder_);
      for (const size_t to : {size_t{0}, size_t{7}, size_t{10}, (i + 5) % all.size(), (i + 9) % all.size()}) {
        SCOPED_TRACE(::testing::Message() << all[i].ranks << " ranks stage " << all[i].stage << " to " << all[to].ranks << " ranks stage "
                                          << all[to].stage << " mode " << static_cast<int>(mode));
        const Outcome tail = run(test(all[to]), all[to].ranks, 3, 5, folder_, "");
        EXPECT_EQ(tail.first, head.last);
        for (size_t s = 0; s < 2; ++s) EXPECT_NEAR(tail.losses[s] / whole.losses[3 + s], 1, 1e-5);
      }
    }
  }
}

TEST_F(Resume, AnotherModelOrOptimizerIsRefused) {
  run(case_of(Mode::FirstOrder, 3), 2, 0, 1, "", folder_);
  const auto refused = [&](const ZerothOrderCase& test) {
    const auto model = make_gpt2(test.model);
    const TrainingPlan plan = plan_training(test.config, *model, *make_cross_entropy(), 1);
    CheckpointReader reader(latest_checkpoint(folder_));
    reader.open();
    try {
      check_holds(reader, *model, &plan);
    } catch (const std::exception& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  const ZerothOrderCase same = case_of(Mode::FirstOrder, 0);
  EXPECT_EQ(refused(same), "");
  ZerothOrderCase other = same;
  other.model.n_inner = 40;
  EXPECT_NE(refused(other).find("c_fc"), std::string::npos);
  other = same;
  other.model.n_layer = 4;
  EXPECT_NE(refused(other).find("h.3"), std::string::npos);
  other = same;
  other.config.optimizer.type = OptimizerConfig::Type::Lion;
  EXPECT_NE(refused(other).find("kept 2 values"), std::string::npos);
}

}  // namespace
}  // namespace zerostep::testing
