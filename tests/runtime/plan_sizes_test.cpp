#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "models/gpt2/gpt2.h"
#include "models/objective.h"
#include "runtime/config/schema.h"
#include "runtime/engine/training_plan.h"
#include "runtime/report/plan_report.h"
#include "tests/runtime/support/config_file.h"

// The sizes of zero_optimization at their ends: every key that the schema has, not a list of its own.

namespace zerostep {
namespace {

using schema::Key;

constexpr int64_t kLargest = std::numeric_limits<int64_t>::max();
constexpr int kWorld = 2;

std::vector<Key> size_keys() {
  std::vector<Key> out;
  for (const Key& key : schema::keys())
    if (key.path.starts_with("zero_optimization.") && key.list == schema::List::Honoured && key.type.kind == schema::Kind::Integer &&
        key.type.high == kLargest)
      out.push_back(key);
  return out;
}

std::string setting(const Key& key, int64_t value) { return fmt::format("{}={}", key.path, value); }

TrainingPlan plan_of(std::vector<std::string> set, int stage, bool round_robin) {
  set.push_back(fmt::format("zero_optimization.stage={}", stage));
  set.push_back(fmt::format("zero_optimization.round_robin_gradients={}", round_robin));
  const LoadedConfig loaded = load_tiny(set, kWorld);
  const auto model = make_gpt2(gpt2_of(loaded.config));
  const auto objective = make_cross_entropy();
  return plan_training(loaded.config, *model, *objective, kWorld);
}

// Every element that this rank updates is in one range of one action, and every message is within its limit.
void expect_sound(const TrainingPlan& plan, const std::string& what) {
  const Plan& train = plan.any_step();
  std::vector<int64_t> updated(plan.layout.groups.size(), 0);
  for (const Action& action : train.actions) {
    int64_t elements = 0;
    for (const CollectivePart& part : action.parts) elements += elements_of_part(plan.layout, part);
    if (action.kind == ActionKind::Reduce) {
      EXPECT_LE(elements, train.limits.reduce_bucket) << what;
    }
    if (action.kind == ActionKind::GatherUpdated) {
      EXPECT_LE(elements, train.limits.allgather_bucket) << what;
    }
    if (action.kind != ActionKind::Update) continue;
    EXPECT_EQ(action.begin, updated[static_cast<size_t>(action.group)]) << what;
    EXPECT_LE(action.end - action.begin, train.limits.sub_group) << what;
    updated[static_cast<size_t>(action.group)] = action.end;
  }
  for (const FlatGroup& g : plan.layout.groups) {
    EXPECT_EQ(updated[static_cast<size_t>(g.id)], updates_whole(train.options) ? g.full_elements() : g.shard_elements()) << what;
    EXPECT_LE(static_cast<int64_t>(g.layout.slices().size()), kMostParts + g.layout.num_parameters()) << what;
  }
}

TEST(PlanSizes, TheSmallestAndTheLargestOfEveryKeyArePlanned) {
  const std::vector<Key> keys = size_keys();
  ASSERT_GE(keys.size(), 8U);
  for (const int stage : {0, 1, 2, 3})
    for (const bool round_robin : {false, true}) {
      std::vector<std::string> all_smallest, all_largest;
      for (const Key& key : keys) {
        for (const int64_t value : {key.type.low, key.type.low + 1, kLargest - 1, kLargest}) {
          const std::string set = setting(key, value);
          expect_sound(plan_of({set}, stage, round_robin), fmt::format("{} at stage {}", set, stage));
        }
        all_smallest.push_back(setting(key, key.type.low));
        all_largest.push_back(setting(key, kLargest));
      }
      expect_sound(plan_of(all_smallest, stage, round_robin), "all at their smallest");
      expect_sound(plan_of(all_largest, stage, round_robin), "all at their largest");
    }
}

TEST(PlanSizes, BucketsBeyondTheModelChangeNothing) {
  for (const int stage : {0, 1, 2, 3})
    for (const bool round_robin : {false, true}) {
      const std::string plain = plan_actions_text(plan_of({}, stage, round_robin));
      std::vector<std::string> all;
      for (const char* name : {"reduce_bucket_size", "allgather_bucket_size", "sub_group_size"}) {
        const std::string set = fmt::format("zero_optimization.{}={}", name, kLargest);
        all.push_back(set);
        EXPECT_EQ(plan_actions_text(plan_of({set}, stage, round_robin)), plain) << set << " at stage " << stage;
      }
      EXPECT_EQ(plan_actions_text(plan_of(all, stage, round_robin)), plain) << "at stage " << stage;
    }
}

TEST(PlanSizes, AnEmptyBucketIsRefusedByItsName) {
  for (const Key& key : size_keys()) {
    if (key.type.low == 0) continue;
    expect_words(tiny_refusal({setting(key, 0)}), {std::string(key.path) + " is 0", "an integer from 1"});
  }
  // The schema lets a size be 0 only where that has a meaning of its own.
  std::vector<std::string_view> with_zero;
  for (const Key& key : size_keys())
    if (key.type.low == 0) with_zero.push_back(key.path.substr(key.path.find('.') + 1));
  EXPECT_EQ(with_zero,
            (std::vector<std::string_view>{"reduce_bucket_size", "sub_group_size", "stage3_max_live_parameters",
                                           "stage3_max_reuse_distance", "stage3_prefetch_bucket_size", "stage3_param_persistence_threshold",
                                           "stage3_model_persistence_threshold", "offload_param.max_in_cpu"}));
}

TEST(PlanSizes, AnEmptyBucketOrPieceIsTheSmallest) {
  for (const int stage : {0, 1, 2, 3})
    for (const std::string name : {"reduce_bucket_size", "sub_group_size"}) {
      const auto plan = [&](const char* value) {
        return plan_actions_text(plan_of({"zero_optimization." + name + "=" + value}, stage, false));
      };
      EXPECT_EQ(plan("0"), plan("1")) << name << " at stage " << stage;
      EXPECT_NE(plan("0"), plan("1000000")) << name << " at stage " << stage;
    }
}

TEST(PlanSizes, ABucketWithoutEffectAtAStageSlicesNothing) {
  for (const int stage : {0, 3}) {
    const TrainingPlan plain = plan_of({}, stage, false), limited = plan_of({"zero_optimization.allgather_bucket_size=100"}, stage, false);
    EXPECT_EQ(plan_actions_text(limited), plan_actions_text(plain)) << "at stage " << stage;
  }
  EXPECT_NE(plan_actions_text(plan_of({"zero_optimization.allgather_bucket_size=100"}, 2, false)),
            plan_actions_text(plan_of({}, 2, false)));
}

TEST(PlanSizes, TheLimitsInForceAreThoseOfTheSlices) {
  // 2 ranks and 16 elements of 64 bytes: a slice of the tiny model is a multiple of 32.
  const TrainingPlan plan = plan_of({"zero_optimization.reduce_bucket_size=100", "zero_optimization.allgather_bucket_size=1000"}, 2, false);
  EXPECT_EQ(plan.any_step().limits.reduce_bucket, 128);
  EXPECT_EQ(plan.any_step().limits.allgather_bucket, 1000);
}

}  // namespace
}  // namespace zerostep
