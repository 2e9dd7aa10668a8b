#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <numeric>

#include "tests/launch/support/run_binary.h"

namespace zerostep::testing {
namespace {

// The experiments of configs/zeroth_order/ on a model that trains in seconds.
class Experiments : public ::testing::TestWithParam<const char*> {
 protected:
  std::vector<double> column(const std::string& run, const std::string& name) const { return place_.column(run, name); }
  Workplace place_;
};

double mean(const std::vector<double>& values, size_t begin, size_t count) {
  return std::accumulate(values.begin() + static_cast<std::ptrdiff_t>(begin), values.begin() + static_cast<std::ptrdiff_t>(begin + count),
                         0.0) /
         static_cast<double>(count);
}

TEST_P(Experiments, RunsOnTwoRanksAndLowersTheLoss) {
  const std::string name = GetParam();
  const char* source = std::getenv("ZEROSTEP_SOURCE_DIR");
  ASSERT_NE(source, nullptr) << "ctest sets ZEROSTEP_SOURCE_DIR";
  place_.config();  // writes the corpus
  std::vector<std::string> arguments = {"train", std::string(source) + "/configs/zeroth_order/" + name + ".json"};
  const std::string corpus = place_.path("corpus.txt");
  for (const std::string& setting :
       {std::string("model={\"family\": \"gpt2\", \"n_layer\": 2, \"n_embd\": 32, \"n_head\": 2, \"n_positions\": 32}"),
        std::string("data.sequence_length=32"), "data.train=" + corpus, "data.eval=" + corpus, std::string("run.eval_samples=8"),
        std::string("run.steps=40"), std::string("run.eval_interval=20"), std::string("optimizer.params.lr=3e-3"),
        std::string("scheduler=null"), std::string("run.output_dir=") + place_.path("runs")}) {
    arguments.push_back("--set");
    arguments.push_back(setting);
  }
  const Outcome done = place_.run(arguments, {.ranks = 2, .timeout_seconds = 120});
  ASSERT_EQ(done.status, 0) << done.err;
  const std::vector<double> losses = column(name, "loss");
  // Where backprop reads data of its own, the loss of its steps is another column.
  const size_t of_backprop_alone = name == "split_data" ? 4 : 0;
  ASSERT_EQ(losses.size(), 40 - of_backprop_alone);
  if (of_backprop_alone > 0) {
    EXPECT_EQ(column(name, "bp_loss").size(), of_backprop_alone);
  }
  for (double loss : losses) EXPECT_TRUE(std::isfinite(loss));
  // Twenty forward-only AdamW steps on this model lower it by 0.05 and more, backprop by 1 and more.
  const double least = name == "fo" ? 1 : 0.05;
  EXPECT_LT(mean(losses, losses.size() - 5, 5), mean(losses, 0, 5) - least) << done.out;
  EXPECT_EQ(column(name, "eval_loss").size(), 2U);
  EXPECT_EQ(place_.exists("runs/" + name + "/zo_log.jsonl"), name != "fo");
  const size_t cosines = column(name, "cosine").size();
  EXPECT_EQ(cosines, name == "instruct" ? 8U : 0U);
  for (double cosine : column(name, "cosine")) EXPECT_GT(cosine, 0.9);
}

INSTANTIATE_TEST_SUITE_P(All, Experiments, ::testing::Values("fo", "zo_q8", "zo_q64", "calibrate", "instruct", "alternating", "split_data"),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace zerostep::testing
