#include <gtest/gtest.h>

#include "tests/runtime/support/config_file.h"

namespace zerostep {
namespace {

using Settings = std::vector<std::string>;

TEST(ConfigStep, BadValuesAreNamed) {
  struct Case {
    Settings set;
    std::vector<std::string> says;
    int world = 1;
  };
  const Case cases[] = {
      {{"step.mode=zo", "step.epsilon=0"}, {"step.epsilon is 0", "above 0"}},
      {{"step.mode=zo", "step.epsilon=-0.001"}, {"step.epsilon is -0.001", "above 0"}},
      {{"step.mode=zo", "step.queries=0"}, {"step.queries is 0", "from 1"}},
      {{"step.mode=zo", "step.queries=2.5"}, {"step.queries is 2.5", "an integer"}},
      {{"step.mode=zo", "step.queries_per_pass=-1"}, {"step.queries_per_pass is -1"}},
      {{"step.mode=zeroth"}, {"step.mode is \"zeroth\"", "\"alternating\""}},
      {{"step.mode=zo", "step.perturbation=normal"}, {"step.perturbation is \"normal\"", "\"low_rank\""}},
      {{"step.mode=zo", "step.estimator=both"}, {"step.estimator is \"both\""}},
      {{"step.mode=zo", "step.direction_parallel=3"}, {"step.direction_parallel is 3", "does not divide the 4 ranks"}, 4},
      {{"step.mode=zo", "step.direction_parallel=2", "step.queries=3"}, {"step.direction_parallel is 2", "step.queries 3", "6 groups"}, 2},
      {{"step.mode=zo", "step.direction_parallel=2", "step.estimator=forward"}, {"step.direction_parallel is 2", "step.queries 1"}, 2},
      {{"step.mode=zo", "step.perturbation=low_rank", "step.rank=65"}, {"step.rank is 65", "the smallest matrix has (64)"}},
      {{"step.mode=zo", "step.perturbation=low_rank", "step.rank=0"}, {"step.rank is 0"}},
      {{"step.mode=zo", "step.perturbation=low_rank", "step.refresh=0"}, {"step.refresh is 0"}},
      {{"step.mode=calibrate", "step.bp_data=own"}, {"step.bp_data \"own\" needs data.bp_train"}},
      {{"step.mode=calibrate", "data.bp_train=x.txt"}, {"data.bp_train is given, and step.bp_data is not \"own\""}},
      {{"step.mode=zo", "step.scalar_transform=normalise"}, {"step.scalar_transform", "\"normalise\" needs at least 2 step.queries"}},
      {{"step.mode=zo", "step.scalar_transform=clip"}, {"step.scalar_transform", "\"clip\" needs at least 2 step.queries"}},
      {{"step.mode=zo", "step.scalar_transform=leave_one_out", "step.queries=4"}, {"step.scalar_transform", "\"forward\""}},
      {{"step.mode=zo", "step.scalar_transform=leave_one_out", "step.estimator=forward"}, {"step.scalar_transform", "at least 2"}},
      {{"step.mode=zo", "step.queries=2", "step.scalar_transform=clip", "step.clip_deviations=0"}, {"step.clip_deviations is 0"}},
      {{"step.mode=zo", "step.master_weights=none"}, {"step.master_weights", "enable bf16 or fp16"}},
      {{"step.mode=calibrate", "step.master_weights=none", "bf16.enabled=true"}, {"step.master_weights", "\"zo\" alone"}},
      {{"step.mode=calibrate", "step.bp_interval=0"}, {"step.bp_interval is 0"}},
      {{"step.mode=calibrate", "step.monitor_interval=-1"}, {"step.monitor_interval is -1"}},
      {{"step.mode=alternating", "step.zo_steps=0"}, {"step.zo_steps is 0"}},
      {{"step.mode=alternating", "step.bp_lr=-1"}, {"step.bp_lr is -1"}},
      {{"step.mode=alternating", "step.state=both"}, {"step.state is \"both\""}},
      {{"step.mode=zo", "step.query_batch_size=7"}, {"step.query_batch_size is 7", "does not divide by", "2 x 1 rank"}},
      {{"step.mode=zo", "step.query_batch_size=6"}, {"step.query_batch_size is 6", "2 x 2 ranks"}, 2},
      {{"step.mode=calibrate", "step.bp_batch_size=5"}, {"step.bp_batch_size is 5", "does not divide by"}},
      {{"step.mode=zo", "step.query_sequence_length=65"}, {"step.query_sequence_length is 65", "model.n_positions 64"}},
      {{"step.mode=instruct", "step.blend=1.5"}, {"step.blend is 1.5"}},
      {{"step.mode=instruct", "step.instruct.cosine=0"}, {"step.instruct.cosine", "the estimate divides by it"}},
      {{"step.mode=instruct", "step.instruct.kind=energy", "step.instruct.noise_scale=0", "step.queries=2"},
       {"step.instruct.noise_scale", "would be the same"}},
      {{"step.mode=instruct", "step.instruct.schedule={\"a\": 1}"}, {"step.instruct.schedule"}}};
  for (const Case& c : cases) expect_words(tiny_refusal(c.set, c.world), c.says);
}

TEST(ConfigStep, GoodNeighboursOfBadValuesAreTaken) {
  EXPECT_NO_THROW(load_tiny({"step.mode=zo", "step.queries=3", "step.direction_parallel=6"}, 6 * 4));
  EXPECT_NO_THROW(load_tiny({"step.mode=zo", "step.perturbation=low_rank", "step.rank=64"}));
  EXPECT_NO_THROW(load_tiny({"step.mode=zo", "step.master_weights=none", "fp16.enabled=true"}));
  EXPECT_NO_THROW(load_tiny({"step.mode=zo", "step.queries=2", "step.scalar_transform=normalise"}));
  EXPECT_NO_THROW(load_tiny({"step.mode=calibrate", "step.bp_data=split"}));
}

TEST(ConfigStep, DefaultsAreThoseOfTheDocumentation) {
  const StepConfig c = load_tiny({"step.mode=zo"}).config.step;
  EXPECT_EQ(c.scope, std::vector<std::string>{"full"});
  EXPECT_EQ(c.queries, 1);
  EXPECT_EQ(c.queries_per_pass, 0);
  EXPECT_EQ(c.epsilon, 1e-3);
  EXPECT_EQ(c.estimator, StepConfig::Estimator::Central);
  EXPECT_EQ(c.perturbation, StepConfig::Perturbation::Gaussian);
  EXPECT_EQ(c.direction_parallel, 1);
  EXPECT_FALSE(c.independent_data);
  EXPECT_TRUE(c.masters);
  EXPECT_EQ(c.query_batch.train_batch_size, 8);
  EXPECT_EQ(c.query_batch.micro_batch_size, 2);
  EXPECT_EQ(c.query_batch.accumulation_steps, 4);
  EXPECT_EQ(c.query_sequence_length, 48);
  EXPECT_EQ(c.transform.kind, StepConfig::Transform::Kind::None);
  EXPECT_FALSE(c.uses_backprop());
  EXPECT_EQ(load_tiny({"step.mode=calibrate"}).config.step.bp_interval, 10);
  EXPECT_EQ(load_tiny({"step.mode=alternating"}).config.step.zo_steps, 1);
  EXPECT_FALSE(load_tiny({"step.mode=alternating"}).config.step.bp_lr.has_value());
}

// In every mode the model gives the lengths that the file leaves out.
TEST(ConfigStep, NothingIsOfNoTokens) {
  for (const char* mode : {"fo", "zo", "calibrate", "instruct", "alternating"}) {
    const Settings bare = {std::string("step.mode=") + mode, "data.sequence_length=null"};
    const auto with = [&](const std::string& more) {
      Settings set = bare;
      set.push_back(more);
      return load_tiny(set).config;
    };
    const Config c = load_tiny(bare).config;
    EXPECT_EQ(c.data.sequence_length, 64) << mode;
    EXPECT_EQ(with("data.sequence_length=32").data.sequence_length, 32) << mode;
    if (!c.step.uses_queries()) continue;
    EXPECT_EQ(c.step.query_sequence_length, 64) << mode;
    EXPECT_EQ(with("data.sequence_length=32").step.query_sequence_length, 32) << mode;
    EXPECT_EQ(with("step.query_sequence_length=20").step.query_sequence_length, 20) << mode;
    EXPECT_EQ(with("step.query_sequence_length=20").data.sequence_length, 64) << mode;
  }
}

// Whatever the mode, what the file leaves out gets a number: the sizes of batches and samples are never 0.
TEST(ConfigStep, NoSizeIsLeftAtZero) {
  for (const char* mode : {"fo", "zo", "calibrate", "instruct", "alternating"}) {
    const nlohmann::json file = resolved(load_tiny({std::string("step.mode=") + mode, "data.sequence_length=null",
                                                    "train_micro_batch_size_per_gpu=null", "optimizer=null", "zero_optimization=null"}));
    for (const char* path : {"/train_batch_size", "/data/sequence_length", "/step/query_batch_size", "/step/query_sequence_length",
                             "/step/bp_batch_size", "/step/queries", "/step/bp_interval", "/step/zo_steps"}) {
      const nlohmann::json::json_pointer at(path);
      if (!file.contains(at)) continue;
      EXPECT_GT(file.at(at).get<int64_t>(), 0) << mode << ": " << path;
    }
    if (std::string(mode) != "fo") {
      EXPECT_TRUE(file.contains("/step/query_sequence_length"_json_pointer)) << mode;
    }
  }
}

// Queries and backprop have batches of their own, over the ranks that share each.
TEST(ConfigStep, BatchesOfQueriesAndOfBackpropAreSeparate) {
  const Config c = load_tiny({"step.mode=calibrate", "step.queries=4", "step.direction_parallel=2", "step.query_batch_size=4",
                              "step.bp_batch_size=16", "step.query_sequence_length=20"},
                             4)
                       .config;
  EXPECT_EQ(c.step.query_batch.train_batch_size, 4);
  EXPECT_EQ(c.step.query_batch.accumulation_steps, 1);  // 4 / (2 x 4 ranks in 2 groups)
  EXPECT_EQ(c.batch.train_batch_size, 16);
  EXPECT_EQ(c.batch.accumulation_steps, 2);  // 16 / (2 x 4 ranks)
  EXPECT_EQ(c.step.query_sequence_length, 20);
  EXPECT_EQ(c.data.sequence_length, 48);
}

// With forward passes alone the batch is split within a group: eight groups on eight ranks leave each the whole batch.
TEST(ConfigStep, DirectionGroupsTakeRanksFromTheData) {
  const Config c = load_tiny({"step.mode=zo", "step.queries=4", "step.direction_parallel=8"}, 8).config;
  EXPECT_EQ(c.step.query_batch.accumulation_steps, 4);
  EXPECT_EQ(c.batch.accumulation_steps, 4);
}

}  // namespace
}  // namespace zerostep
