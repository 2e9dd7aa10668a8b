#include <c10/util/Exception.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <bit>
#include <chrono>
#include <cmath>

#include "base/error.h"
#include "models/error_text.h"
#include "models/objective.h"
#include "runtime/engine/engine.h"
#include "sharding/local_ranks.h"
#include "tests/runtime/support/training_case.h"

// What becomes of an engine, of the others and of the message when something fails inside a step.

namespace zerostep::testing {
namespace {

using Hook = std::function<void(int unit)>;

// A unit that calls a hook before each forward.
class HookedUnit final : public Unit {
 public:
  HookedUnit(int index, std::unique_ptr<Unit> unit, const Hook& hook) : index_(index), unit_(std::move(unit)), hook_(hook) {}
  TensorList forward(const TensorList& inputs, const ForwardContext& context) override {
    hook_(index_);
    return unit_->forward(inputs, context);
  }
  TensorList forward_branches(const TensorList& inputs, const ForwardContext& context, const BranchPerturbation& perturbation) override {
    hook_(index_);
    return unit_->forward_branches(inputs, context, perturbation);
  }

 private:
  int index_;
  std::unique_ptr<Unit> unit_;
  const Hook& hook_;
};

class HookedModel final : public ModelDefinition {
 public:
  HookedModel(const Gpt2Options& options, Hook hook) : model_(make_gpt2(options)), hook_(std::move(hook)) { units_ = model_->units(); }
  std::unique_ptr<Unit> make_unit(int index, std::vector<at::Tensor> parameters) const override {
    return std::make_unique<HookedUnit>(index, model_->make_unit(index, std::move(parameters)), hook_);
  }
  ActivationCost activation_cost(int index, const ActivationShape& shape) const override { return model_->activation_cost(index, shape); }
  std::string hugging_face_config() const override { return model_->hugging_face_config(); }
  std::vector<std::string> reduced_scope() const override { return model_->reduced_scope(); }
  std::vector<std::string> embeddings_and_head() const override { return model_->embeddings_and_head(); }
  int64_t vocabulary_size() const override { return model_->vocabulary_size(); }
  int64_t max_sequence_length() const override { return model_->max_sequence_length(); }

 private:
  std::unique_ptr<ModelDefinition> model_;
  Hook hook_;
};

TrainingCase case_of(int stage, int ranks, bool overlap) {
  TrainingCase test = TrainingCase::tiny();
  test.config.zero.stage = stage;
  test.config.zero.overlap_comm = overlap;
  test.config.zero.stage3_prefetch_bucket_size = int64_t{1} << 40;
  test.global_batch = 2 * ranks;
  test.set_micro_batch(1, ranks);
  return test;
}

struct Fault {
  int rank, unit;
  int64_t step;
  std::function<void()> raise;
};

// Trains two steps with the fault; the message that the job ends with.
std::string message_of(const TrainingCase& test, int ranks, const Fault& fault) {
  const auto objective = make_cross_entropy();
  try {
    run_local_ranks(ranks, {.timeout_seconds = 60}, [&](Communicator world) {
      int64_t step = 0;
      const HookedModel model(test.model, [&](int unit) {
        if (world.rank() == fault.rank && unit == fault.unit && step == fault.step) fault.raise();
      });
      Engine engine(
          test.config, model, *objective, plan_training(test.config, model, *objective, ranks),
          [&](const ParameterInfo& info, int64_t begin, int64_t count, float* values) { initial_values(info, 7, begin, count, values); },
          world);
      for (; step < 2; ++step) engine.train_step(step, [&](int64_t m) { return test.batch(step, m, world.rank(), world.size()); });
    });
  } catch (const RunError& error) {
    EXPECT_EQ(dynamic_cast<const PeerError*>(&error), nullptr) << "an echo: " << error.what();
    return error.what();
  }
  ADD_FAILURE() << "nothing failed";
  return "";
}

// The memory of the engine that fails is unmapped while the other ranks gather from it and its own stream has gathers to do, unless it ends
// them first. The gathers are of megabytes, so that one is under way.
TEST(EngineFailure, AUnitThatThrowsEndsTheCollectivesBeforeTheMemory) {
  TrainingCase test = case_of(3, 3, true);
  test.model.n_embd = 256;
  test.model.n_inner = 1024;
  test.model.vocab_size = 4001;
  test.sequence = 4;
  const auto start = std::chrono::steady_clock::now();
  for (const int64_t step : {0, 1})
    for (const int unit : {0, 1, 2, 3})
      for (const int rank : {0, 2})
        EXPECT_EQ(message_of(test, 3, {rank, unit, step, [] { throw std::runtime_error("the unit is broken"); }}),
                  fmt::format("rank {}, step {}, forward of unit {}: the unit is broken", rank, step,
                              unit == 0 ? "embedding" : "h." + std::to_string(unit - 1)));
  EXPECT_LT(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count(), 50) << "a rank waited for its time-out";
}

TEST(EngineFailure, EveryStageEndsAtOnceWithTheRankStepUnitAndOperation) {
  for (const int stage : {0, 1, 2, 3})
    for (const bool overlap : {false, true})
      EXPECT_EQ(message_of(case_of(stage, 2, overlap), 2, {1, 2, 1, [] { throw RunError("no memory is left"); }}),
                "rank 1, step 1, forward of unit h.1: no memory is left")
          << "stage " << stage;
}

TEST(EngineFailure, AnErrorOfLibTorchSaysWhatIsWrongAndNotWhereItsSourceStands) {
  const std::string said =
      message_of(case_of(2, 2, false), 2, {0, 1, 0, [] { TORCH_CHECK(false, "index 300 is out of bounds for 257 rows"); }});
  EXPECT_EQ(said, "rank 0, step 0, forward of unit h.0: index 300 is out of bounds for 257 rows");
}

TEST(EngineFailure, WhatFailsBetweenVisitsNamesRankAndStep) {
  const TrainingCase test = case_of(0, 2, false);
  const auto objective = make_cross_entropy();
  const auto model = make_gpt2(test.model);
  try {
    run_local_ranks(2, {.timeout_seconds = 60}, [&](Communicator world) {
      Engine engine(
          test.config, *model, *objective, plan_training(test.config, *model, *objective, 2),
          [&](const ParameterInfo& info, int64_t begin, int64_t count, float* values) { initial_values(info, 7, begin, count, values); },
          world);
      engine.train_step(5, [&](int64_t m) {
        TORCH_CHECK(world.rank() == 0, "this batch cannot be made");
        return test.batch(5, m, world.rank(), world.size());
      });
    });
    ADD_FAILURE() << "nothing failed";
  } catch (const RunError& error) {
    EXPECT_STREQ(error.what(), "rank 1, step 5: this batch cannot be made");
  }
}

TEST(EngineFailure, AnEvaluationIsNoStep) {
  const TrainingCase test = case_of(3, 2, true);
  const auto objective = make_cross_entropy();
  try {
    run_local_ranks(2, {.timeout_seconds = 60}, [&](Communicator world) {
      int64_t batches = 0;
      const HookedModel model(test.model, [&](int unit) {
        if (world.rank() == 1 && unit == 2 && batches == 2) throw std::runtime_error("the unit is broken");
      });
      Engine engine(
          test.config, model, *objective, plan_training(test.config, model, *objective, 2),
          [&](const ParameterInfo& info, int64_t begin, int64_t count, float* values) { initial_values(info, 7, begin, count, values); },
          world);
      engine.evaluate(3, [&](int64_t b) {
        batches = b;
        return Engine::EvaluationBatch{test.batch(b, 0, world.rank(), world.size()), true};
      });
    });
    ADD_FAILURE() << "nothing failed";
  } catch (const RunError& error) {
    EXPECT_STREQ(error.what(), "rank 1, evaluation batch 2, forward (no graph) of unit h.1: the unit is broken");
  }
}

TEST(EngineFailure, ALossThatIsNoNumberAtTheFirstStepNamesNoStepBeforeIt) {
  TrainingCase test = case_of(0, 1, false);
  const auto objective = make_cross_entropy();
  const auto model = make_gpt2(test.model);
  try {
    run_local_ranks(1, {}, [&](Communicator world) {
      Engine engine(
          test.config, *model, *objective, plan_training(test.config, *model, *objective, 1),
          [](const ParameterInfo&, int64_t, int64_t count, float* values) { std::fill_n(values, count, std::nanf("")); }, world);
      engine.train_step(0, [&](int64_t m) { return test.batch(0, m, 0, 1); });
    });
    ADD_FAILURE() << "nothing failed";
  } catch (const RunError& error) {
    const std::string said = error.what();
    EXPECT_NE(said.find("step 0: rank 0: the loss is nan"), std::string::npos) << said;
    EXPECT_NE(said.find("The parameters are the first values: no step was applied"), std::string::npos) << said;
    EXPECT_EQ(said.find("step -1"), std::string::npos) << said;
  }
}

TEST(ErrorText, LeavesTheStackOfLibTorchOut) {
  try {
    TORCH_CHECK(false, "two words");
  } catch (const std::exception& error) {
    EXPECT_EQ(error_text(error), "two words");
    EXPECT_NE(std::string(error.what()), "two words") << "the library's own text has more; else this test shows nothing";
  }
  EXPECT_EQ(error_text(RunError("ours")), "ours");
  // Memory that could not be had, where addresses are limited.
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_AS, &before), 0);
  const rlimit limited{rlim_t{1} << 50, before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_AS, &limited), 0);
  const std::string mapped = error_text(RunError("cannot map 8 bytes: Cannot allocate memory")), exhausted = error_text(std::bad_alloc()),
                    other = error_text(RunError("ours"));
  ::setrlimit(RLIMIT_AS, &before);
  EXPECT_EQ(mapped, "cannot map 8 bytes: Cannot allocate memory. This process may have 1.00 PiB of addresses: raise that (`ulimit -v`)");
  EXPECT_NE(exhausted.find("`ulimit -v`"), std::string::npos) << exhausted;
  EXPECT_EQ(other, "ours");
}

// Every rank reads the first values bit for bit, zeros of both signs among them, at every stage and world size.
TEST(ReadParameter, KeepsEveryBitOfWhatOneRankOwns) {
  const auto value_at = [](int64_t i) { return i % 3 == 0 ? -0.0f : i % 3 == 1 ? 0.0f : std::bit_cast<float>(0x80000001U + uint32_t(i)); };
  for (const DType type : {DType::F32, DType::BF16})
    for (const int ranks : {1, 2, 3})
      for (const int stage : {0, 1, 2, 3}) {
        TrainingCase test = case_of(stage, ranks, false);
        test.config.precision.compute = type;
        test.config.model.trainable = {"*ln_f*"};  // frozen matrices have no fp32 masters
        const auto model = make_gpt2(test.model);
        const auto objective = make_cross_entropy();
        run_local_ranks(ranks, {.timeout_seconds = 60}, [&](Communicator world) {
          Engine engine(
              test.config, *model, *objective, plan_training(test.config, *model, *objective, ranks),
              [&](const ParameterInfo&, int64_t begin, int64_t count, float* values) {
                for (int64_t i = 0; i < count; ++i) values[i] = value_at(begin + i);
              },
              world);
          std::vector<float> values;
          for (size_t u = 0; u < model->units().size(); ++u)
            for (size_t p = 0; p < model->units()[u].parameters.size(); ++p) {
              const ParameterInfo& info = model->units()[u].parameters[p];
              engine.read_parameter(static_cast<int>(u), static_cast<int>(p), values);
              const bool is_rounded = is_16bit(type) && info.shape.size() == 2;  // the smallest fp32 values round to a zero of their sign
              int64_t wrong = 0;
              for (int64_t i = 0; i < info.num_elements(); ++i) {
                const float expected = is_rounded ? std::copysign(0.0f, value_at(i)) : value_at(i);
                wrong += std::bit_cast<uint32_t>(values[static_cast<size_t>(i)]) != std::bit_cast<uint32_t>(expected) ? 1 : 0;
              }
              EXPECT_EQ(wrong, 0) << info.name << " at stage " << stage << " on " << ranks << " ranks, " << name_of(type);
            }
        });
      }
}

}  // namespace
}  // namespace zerostep::testing
