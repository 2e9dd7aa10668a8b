#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <string>
#include <tuple>

#include "tests/launch/support/run_binary.h"

namespace zerostep::testing {
namespace {

// What the columns, lines and footers of a run tell.
class ReportedNumbers : public ::testing::Test {
 protected:
  // Each run has a folder of its own.
  Outcome train(const std::vector<std::string>& set, int ranks = 1) {
    std::vector<std::string> arguments{"train", place_.config(), "--set", "run.name=" + (run_ = fmt::format("run{}", ++runs_))};
    for (const std::string& s : set) arguments.insert(arguments.end(), {"--set", s});
    return place_.run(arguments, {.ranks = ranks});
  }
  std::vector<std::map<std::string, std::string>> metrics() const { return place_.metrics(run_); }
  std::vector<double> column(const std::string& name) const { return place_.column(run_, name); }
  Workplace place_;
  std::string run_;
  int runs_ = 0;
};

// Backprop learns a text of one letter, the queries see another one.
TEST_F(ReportedNumbers, LossesOfTwoDataSetsStandApart) {
  place_.write("letter.txt", std::string(2000, 'a'));
  const Outcome done = train({"step.mode=calibrate", "step.bp_interval=2", "step.bp_data=own", "data.bp_train=" + place_.path("letter.txt"),
                              "optimizer.params.lr=0.01", "run.steps=20", "run.eval_interval=0"},
                             2);
  ASSERT_EQ(done.status, 0) << done.err;
  const auto rows = metrics();
  ASSERT_EQ(rows.size(), 20u);
  for (size_t s = 0; s < rows.size(); ++s) {
    EXPECT_EQ(rows[s].at("loss").empty(), s % 2 == 1) << "step " << s;
    EXPECT_EQ(rows[s].at("loss_kind"), s % 2 == 1 ? "" : "pairs") << "step " << s;
    EXPECT_EQ(rows[s].at("bp_loss").empty(), s % 2 == 0) << "step " << s;
  }
  const std::vector<double> backprop = column("bp_loss"), queries = column("loss");
  EXPECT_LT(backprop.back(), 0.5 * backprop.front());
  EXPECT_GT(*std::min_element(queries.begin(), queries.end()), backprop.back() + 1);
  const auto shown = [](double first, double last) { return fmt::format("loss {:.4f} -> {:.4f}", first, last); };
  EXPECT_SAYS(done.out, ": " + shown(queries.front(), queries.back()) + ", bp " + shown(backprop.front(), backprop.back()));
  EXPECT_SAYS(done.out, fmt::format("step 20/20 | loss {:.4f} | bp loss {:.4f} |", queries.back(), backprop.back()));
}

// One stream: a step of backprop has the loss of its samples.
TEST_F(ReportedNumbers, LossesOfOneDataSetAreOneSeries) {
  const Outcome done = train({"step.mode=alternating", "step.zo_steps=1"});
  ASSERT_EQ(done.status, 0) << done.err;
  const auto rows = metrics();
  ASSERT_EQ(rows.size(), 4u);
  for (size_t s = 0; s < rows.size(); ++s) {
    EXPECT_FALSE(rows[s].at("loss").empty());
    EXPECT_EQ(rows[s].at("bp_loss"), s % 2 == 0 ? rows[s].at("loss") : "");
  }
  EXPECT_EQ(count(done.out, "bp loss"), 0u) << done.out;
}

// Estimates are followed whole unless the file asks for clipping, and then the run says how little is left of them.
TEST_F(ReportedNumbers, ClippingOfEstimatesIsAskedForAndTold) {
  const std::vector<std::string> set = {"step.mode=zo", "step.queries=2", "run.steps=22", "optimizer.type=SGD"};
  const auto with = [&](const char* clipping, int ranks) {
    std::vector<std::string> all = set;
    if (clipping != nullptr) all.push_back(fmt::format("gradient_clipping={}", clipping));
    return train(all, ranks);
  };
  const Outcome free = with(nullptr, 1);
  ASSERT_EQ(free.status, 0) << free.err;
  EXPECT_EQ(count(free.err, "clip"), 0u) << free.err;
  EXPECT_TRUE(column("clip_scale").empty());
  const std::vector<double> norms = column("grad_norm"), losses = column("loss");
  ASSERT_EQ(with("0", 1).status, 0);
  EXPECT_EQ(column("grad_norm"), norms);
  EXPECT_EQ(column("loss"), losses);
  for (const int ranks : {1, 2}) {
    const Outcome clipped = with("1", ranks);
    ASSERT_EQ(clipped.status, 0) << clipped.err;
    const std::vector<double> scales = column("clip_scale"), cut = column("grad_norm");
    ASSERT_EQ(scales.size(), 22u);
    // The norm of a division by it, 1e-6 beside a norm of at least 10: 1e-7.
    for (size_t s = 0; s < scales.size(); ++s) EXPECT_NEAR(scales[s] * cut[s], 1, 1e-7);
    EXPECT_LT(*std::max_element(scales.begin(), scales.end()), 0.1);
    EXPECT_EQ(count(clipped.err, "gradient_clipping"), 2u) << clipped.err;  // one warning, which names the key twice
    EXPECT_EQ(count(clipped.err, "cut the first 20 estimates"), 1u) << clipped.err;
  }
}

// No step of these can be applied: a long run ends after twenty of them, a short one at its end, and neither as if it had trained.
TEST_F(ReportedNumbers, ARunThatAppliesNoStepFails) {
  for (const auto& [steps, rows, ranks] : {std::tuple{60, 19, 1}, {60, 19, 2}, {5, 5, 1}, {5, 5, 2}}) {
    const Outcome done =
        train({"step.mode=zo", "step.queries=2", "model.initializer_range=1e20", fmt::format("run.steps={}", steps)}, ranks);
    EXPECT_EQ(done.status, 1) << done.out;
    EXPECT_EQ(count(done.err, "zerostep: "), 1u) << done.err;
    EXPECT_SAYS(done.err, fmt::format("step {}: {} steps in a row were skipped", std::min(steps, 20) - 1, std::min(steps, 20)));
    EXPECT_SAYS(done.err, "not finite (direction 0: nan");
    EXPECT_SAYS(done.err, "The parameters are the first values");
    EXPECT_EQ(metrics().size(), static_cast<size_t>(rows));
    EXPECT_EQ(count(done.out + done.err, "-nan"), 0u) << done.out << done.err;
  }
  const Outcome first = train({"model.initializer_range=1e20"});
  EXPECT_EQ(first.status, 1);
  EXPECT_SAYS(first.err, "step 0: rank 0: the loss is nan");
  EXPECT_SAYS(first.err, "The parameters are the first values: no step was applied");
}

// Samples of an evaluation come from all files, the same on any number of ranks, and the header counts them.
TEST_F(ReportedNumbers, EvaluationsSampleTheWholeSet) {
  place_.write("first.txt", std::string(640, 'a'));
  place_.write("second.txt", std::string(640, 'z'));
  const std::vector<std::string> data = {"data.train=" + place_.path("first.txt"),
                                         fmt::format(R"(data.eval=["{}", "{}"])", place_.path("first.txt"), place_.path("second.txt"))};
  std::vector<std::string> set = data;
  set.insert(set.end(), {"run.eval_samples=10", "run.eval_interval=20", "run.steps=20", "optimizer.params.lr=0.01", "train_batch_size=12"});
  std::vector<double> losses;
  for (const int ranks : {1, 2, 3}) {
    const Outcome done = train(set, ranks);
    ASSERT_EQ(done.status, 0) << done.err;
    EXPECT_SAYS(done.out, "evaluation     160 tokens in 10 samples of 16 tokens, out of 1,282 tokens");
    losses.push_back(column("eval_loss").at(0));
  }
  // Half of them are of the letter that was never seen.
  EXPECT_GT(losses[0], 2);
  for (const double loss : losses) EXPECT_NEAR(loss / losses[0], 1, 1e-5);
}

// Forward passes recompute nothing, whatever the file asks for.
TEST_F(ReportedNumbers, RecomputationIsToldWhereItIsDone) {
  const std::vector<std::string> set = {"activation_checkpointing.number_checkpoints=2", "run.steps=1"};
  for (const char* mode : {"zo", "fo", "calibrate"}) {
    std::vector<std::string> all = set;
    all.push_back(fmt::format("step.mode={}", mode));
    const Outcome done = train(all);
    ASSERT_EQ(done.status, 0) << done.err;
    const bool forward = std::string(mode) == "zo";
    EXPECT_EQ(count(done.out, "recomput"), forward ? 0u : 1u) << done.out;
    EXPECT_EQ(count(done.err, "activation_checkpointing.number_checkpoints has no effect in step.mode zo"), forward ? 1u : 0u) << done.err;
  }
}

// A pass over the samples of the queries, of which every direction takes its own.
TEST_F(ReportedNumbers, EpochsCountTheSamplesOfEveryDirection) {
  const Outcome done =
      train({"step.mode=zo", "step.queries=3", "step.query_data=independent", "run.steps=null", "run.epochs=2", "data.max_samples=24"});
  ASSERT_EQ(done.status, 0) << done.err;
  const auto rows = metrics();
  ASSERT_EQ(rows.size(), 4u);  // 2 x 24 samples, 3 x 4 a step
  for (size_t s = 0; s < rows.size(); ++s) {
    EXPECT_EQ(rows[s].at("epoch"), s < 2 ? "0" : "1");
    // Tokens a second times seconds: 3 batches of 4 samples of 16 tokens, up to the rounding of the product.
    EXPECT_NEAR(std::stod(rows[s].at("tokens_per_second")) * std::stod(rows[s].at("step_seconds")), 3 * 4 * 16, 1e-6);
  }
}

}  // namespace
}  // namespace zerostep::testing
