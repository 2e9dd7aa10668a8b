#include "runtime/strategy/branch_states.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "base/error.h"

namespace zerostep {
namespace {

constexpr size_t kBranches = 4, kMicroBatches = 2;
constexpr int64_t kSamples = 3, kWidth = 5;

at::Tensor batch_of(size_t batch, size_t micro_batch) {
  return at::arange(kSamples * kWidth, at::kFloat).view({kSamples, kWidth}) + static_cast<double>(100 * batch + 1000 * micro_batch);
}
// What a unit makes of one branch's states.
at::Tensor unit(const at::Tensor& x, size_t unit, size_t branch) { return x * 1.5 + static_cast<double>(7 * unit + branch); }
// The same of branches [begin, end) in one tensor, each sample by itself.
at::Tensor unit_of(const at::Tensor& x, size_t index, size_t begin, size_t end) {
  at::Tensor out = at::empty_like(x);
  const int64_t samples = x.size(0) / static_cast<int64_t>(end - begin);
  for (int64_t row = 0; row < x.size(0); ++row) out[row].copy_(unit(x[row], index, begin + static_cast<size_t>(row / samples)));
  return out;
}

// How a unit runs its branches: so many together, of their own states or of a view of all of them.
struct Form {
  size_t together;
  bool of_a_view = false;
};

void run_unit(BranchStates& states, size_t index, const Form& form) {
  for (size_t m = 0; m < kMicroBatches; ++m) {
    at::Tensor joined;
    for (size_t begin = 0; begin < kBranches; begin += form.together) {
      const size_t end = begin + form.together;
      const TensorList in = form.of_a_view ? states.view(begin, end, m) : states.take(begin, end, m);
      ASSERT_EQ(in.size(), 1u);
      const at::Tensor out = unit_of(in[0], index, begin, end);
      if (form.of_a_view)
        joined = joined.defined() ? at::cat({joined, out}) : out;
      else
        states.put(begin, end, m, {out});
    }
    if (form.of_a_view) states.put(0, kBranches, m, {joined});
  }
}

// Every order of three forms after the units that run once for all: what each branch has is what a loop over branches alone gives it.
TEST(BranchStates, EveryFormHandsOnWhatALoopOverBranchesDoes) {
  const Form forms[] = {{1}, {2}, {4}, {1, true}, {2, true}, {4, true}};
  const std::vector<size_t> batches[] = {{0, 0, 0, 0}, {0, 0, 1, 1}};
  for (const std::vector<size_t>& batch_of_branch : batches)
    for (const Form& first : forms)
      for (const Form& second : forms)
        for (const Form& third : forms) {
          BranchStates states;
          states.begin_batches(batch_of_branch.back() + 1, kMicroBatches);
          for (size_t b = 0; b <= batch_of_branch.back(); ++b)
            for (size_t m = 0; m < kMicroBatches; ++m) {
              EXPECT_TRUE(states.shared(b, m).empty());
              states.shared(b, m) = {batch_of(b, m)};
              states.shared(b, m) = {unit(states.shared(b, m)[0], 0, 0)};
            }
          states.begin_branches(batch_of_branch);
          size_t index = 0;
          for (const Form& form : {first, second, third}) run_unit(states, ++index, form);
          for (size_t m = 0; m < kMicroBatches; ++m)
            for (size_t b = 0; b < kBranches; ++b) {
              at::Tensor expected = unit(batch_of(batch_of_branch[b], m), 0, 0);
              for (size_t u = 1; u <= 3; ++u) expected = unit(expected, u, b);
              const TensorList found = states.take(b, b + 1, m);
              ASSERT_EQ(found.size(), 1u);
              EXPECT_TRUE(at::equal(found[0], expected))
                  << first.together << second.together << third.together << " branch " << b << " micro-batch " << m;
            }
        }
}

TEST(BranchStates, BeforeTheFirstUnitThereAreNone) {
  BranchStates states;
  states.begin_batches(1, 1);
  states.begin_branches({0, 0});
  EXPECT_TRUE(states.take(0, 1, 0).empty());
  EXPECT_TRUE(states.take(0, 2, 0).empty());
  EXPECT_TRUE(states.view(0, 2, 0).empty());
  states.put(0, 2, 0, {batch_of(0, 0)});
  EXPECT_FALSE(states.take(0, 1, 0).empty());
}

// What is shared serves every branch and every pass; a branch's own is there once.
TEST(BranchStates, AreTakenOnceUnlessTheyAreShared) {
  BranchStates states;
  states.begin_batches(1, 1);
  states.shared(0, 0) = {batch_of(0, 0)};
  states.begin_branches({0, 0});
  for (int i = 0; i < 2; ++i) EXPECT_TRUE(states.take(1, 2, 0)[0].is_same(states.shared(0, 0)[0]));
  states.put(1, 2, 0, {batch_of(0, 1)});
  EXPECT_TRUE(at::equal(states.take(0, 2, 0)[0], at::cat({batch_of(0, 0), batch_of(0, 1)})));
  EXPECT_THROW(states.take(1, 2, 0), ProtocolError);
  states.end_branches();
  EXPECT_TRUE(states.take(1, 2, 0)[0].is_same(states.shared(0, 0)[0]));
}

// Memory: states that were taken are the taker's alone, a single branch's are no copy, and branches that are cut out of one tensor share
// it.
TEST(BranchStates, HoldNothingThatWasTaken) {
  BranchStates states;
  states.begin_batches(1, 1);
  states.begin_branches({0, 0});
  const auto make = [] { return at::ones({2 * kSamples, kWidth}); };
  states.put(0, 2, 0, {make()});
  const at::Tensor both = states.view(0, 2, 0)[0];
  EXPECT_EQ(both.use_count(), 2u);
  EXPECT_TRUE(states.view(1, 2, 0)[0].is_alias_of(both));
  EXPECT_TRUE(states.take(0, 1, 0)[0].is_alias_of(both));
  EXPECT_TRUE(states.take(1, 2, 0)[0].is_alias_of(both));
  EXPECT_EQ(both.use_count(), 1u);
  EXPECT_EQ(both.storage().use_count(), 1u);
  states.put(0, 2, 0, {make()});
  EXPECT_EQ(states.take(0, 2, 0)[0].use_count(), 1u);
  states.put(0, 1, 0, {both});
  states.reset();
  EXPECT_EQ(both.use_count(), 1u);
}

TEST(BranchStates, SamplesOfBranchesAreWhereTheyStand) {
  const at::Tensor all = at::arange(12).view({6, 2});
  EXPECT_TRUE(at::equal(samples_of_branches(all, 1, 1, 3), all.narrow(0, 2, 2)));
  EXPECT_TRUE(at::equal(samples_of_branches(all, 1, 2, 3), all.narrow(0, 2, 4)));
}

}  // namespace
}  // namespace zerostep
