#include <gtest/gtest.h>

#include "base/error.h"
#include "experiments/plot/grouping.h"
#include "experiments/plot/x_values.h"
#include "tests/experiments/support/made_runs.h"
#include "tests/support/expect_says.h"
#include "tests/support/message_of.h"

namespace zerostep {
namespace {

using testing::cells;
using testing::MadeRuns;
using testing::message_of;
using Values = std::vector<double>;

class PlotXValues : public ::testing::Test {
 protected:
  PlotRun load(const std::string& place) const { return std::move(load_runs(find_runs({place}), {}, 1, notes_)[0]); }
  PlotRun run_of(const nlohmann::json& config, const MadeRuns::Columns& more = {}) const {
    MadeRuns::Columns columns{{"step", {"0", "1", "2", "3"}}, {"loss", {"4", "3", "2", "1"}}};
    columns.insert(columns.end(), more.begin(), more.end());
    return load(made_.make("a", columns, config));
  }
  Values values(const PlotRun& run, const char* axis) const { return x_values(run, x_axis(axis)); }
  MadeRuns made_;
  mutable std::vector<std::string> notes_;
};

TEST_F(PlotXValues, StepsAreTheColumnOrTheRow) {
  EXPECT_EQ(values(run_of({}), "step"), (Values{0, 1, 2, 3}));
  EXPECT_EQ(values(load(made_.write("one.csv", "step,loss\n1,4\n2,3\n5,2\n")), "step"), (Values{1, 2, 5}));
  EXPECT_EQ(values(load(made_.write("none.csv", "loss\n4\n3\n")), "step"), (Values{0, 1}));
}

TEST_F(PlotXValues, SecondsAreThoseOfTheStepsOrSinceTheFirstRow) {
  EXPECT_EQ(values(run_of({}, {{"step_seconds", {"0.5", "0.25", "", "1"}}}), "seconds"), (Values{0.5, 0.75, 0.75, 1.75}));
  const std::string file = made_.write("old.csv", "timestamp,loss\n2025-11-06 12:00:00,4\n2025-11-06 12:00:07,3\n2025-11-07 12:00:00,3\n");
  EXPECT_EQ(values(load(file), "seconds"), (Values{0, 7, 86400}));
  const std::string without = made_.write("without.csv", "loss\n4\n3\n");
  const PlotRun run = load(without);
  const std::string text = message_of<InputError>([&] { values(run, "seconds"); });
  EXPECT_SAYS(text, without);
  EXPECT_SAYS(text, "has no values in a column timestamp or step_seconds");
}

TEST_F(PlotXValues, TokensAreWhole) {
  // 128 tokens a step, as rounded quotients give them.
  const PlotRun run = run_of({}, {{"tokens_per_second", {"29881.50233455073", "21534.8257247962", "42666.666666666664", "128"}},
                                  {"step_seconds", {"0.004283587", "0.005943860", "0.003", "1"}}});
  EXPECT_EQ(values(run, "tokens"), (Values{128, 256, 384, 512}));
  const PlotRun without = run_of({});
  EXPECT_SAYS(message_of<InputError>([&] { values(without, "tokens"); }),
              "has no values in a column tokens_per_second, which --x tokens needs");
}

TEST_F(PlotXValues, ForwardsCountWhatEachKindOfStepRuns) {
  EXPECT_EQ(values(run_of({{"step", {{"mode", "fo"}}}}), "forwards"), (Values{3, 6, 9, 12}));
  EXPECT_EQ(values(run_of({{"step", {{"mode", "zo"}, {"queries", 5}}}}), "forwards"), (Values{10, 20, 30, 40}));
  EXPECT_EQ(values(run_of({{"step", {{"mode", "zo"}, {"queries", 5}, {"estimator", "forward"}}}}), "forwards"), (Values{6, 12, 18, 24}));
  // A backprop step, then two with queries.
  EXPECT_EQ(values(run_of({{"step", {{"mode", "alternating"}, {"queries", 2}, {"zo_steps", 2}}}}), "forwards"), (Values{3, 7, 11, 14}));
  // Every second step is backprop, and every second of those has queries too.
  EXPECT_EQ(values(run_of({{"step", {{"mode", "calibrate"}, {"queries", 2}, {"bp_interval", 2}, {"monitor_interval", 2}}}}), "forwards"),
            (Values{4, 7, 11, 18}));
  EXPECT_EQ(values(run_of({{"step", {{"mode", "instruct"}, {"queries", 2}, {"bp_interval", 2}}}}), "forwards"), (Values{4, 11, 15, 22}));
  // Of the earlier work's files the columns tell.
  EXPECT_EQ(values(load(made_.write("old.csv", "mode,q,loss\nFO,N/A,2\nFO,N/A,1\n")), "forwards"), (Values{3, 6}));
  EXPECT_EQ(values(load(made_.write("zo.csv", "mode,q,loss\nZO,4,2\nZO,4,1\n")), "forwards"), (Values{8, 16}));
  const PlotRun unknown = load(made_.write("unknown.csv", "loss\n1\n"));
  EXPECT_SAYS(message_of<InputError>([&] { values(unknown, "forwards"); }), "its column mode is ''");
}

TEST_F(PlotXValues, BytesAreElementsInTheirPrecision) {
  const MadeRuns::Columns counts{{"elements_gathered", {"10", "10", "10", "20"}}, {"elements_reduced", {"3", "3", "", "5"}}};
  EXPECT_EQ(values(run_of({{"communication_data_type", "fp32"}}, counts), "bytes"), (Values{52, 104, 144, 244}));
  EXPECT_EQ(values(run_of({{"bf16", {{"enabled", true}}}, {"communication_data_type", "fp32"}}, counts), "bytes"),
            (Values{32, 64, 84, 144}));
  EXPECT_EQ(values(run_of({{"bf16", {{"enabled", true}}}, {"communication_data_type", "bf16"}}, counts), "bytes"),
            (Values{26, 52, 72, 122}));
}

TEST_F(PlotXValues, GroupsAreByKeyOrByAllButTheSeed) {
  const auto make = [&](const std::string& name, const nlohmann::json& config) {
    made_.make(name, {{"step", {"0"}}, {"loss", {"1"}}}, config);
  };
  for (int seed : {1, 2}) {
    const std::string end = "-" + std::to_string(seed);
    make("fo" + end, {{"seed", seed}, {"step", {{"mode", "fo"}}}, {"gradient_clipping", 1.0}});
    for (int q : {16, 4}) {
      const nlohmann::json step{{"mode", "zo"}, {"queries", q}};
      make("zo" + std::to_string(q) + end, {{"seed", seed}, {"step", step}, {"gradient_clipping", 0.0}});
    }
  }
  const std::vector<PlotRun> runs = load_runs(find_runs({made_.path("runs")}), {}, 2, notes_);  // fo-1, fo-2, zo16-1, zo16-2, zo4-1, zo4-2
  const Grouping settings = group_by_settings(runs);
  EXPECT_EQ(settings.labels, (std::vector<std::string>{"fo", "zo, queries 4", "zo, queries 16"}));
  EXPECT_EQ(settings.of_run, (std::vector<size_t>{0, 0, 2, 2, 1, 1}));
  EXPECT_EQ(telling_keys(runs, true), (std::vector<std::string>{"step.mode", "step.queries", "seed"}));
  EXPECT_EQ(path_of_key(runs, "queries"), "step.queries");
  const Grouping queries = group_by_key({runs[2], runs[4]}, "step.queries");
  EXPECT_EQ(queries.labels, (std::vector<std::string>{"queries 4", "queries 16"}));
  EXPECT_EQ(queries.of_run, (std::vector<size_t>{1, 0}));
  const std::string text = message_of<InputError>([&] { path_of_key(runs, "querys"); });
  EXPECT_SAYS(text, "--by querys: no run has such a key in its configuration; did you mean step.queries?");
  // What is farther away than a few letters but begins alike.
  EXPECT_SAYS(message_of<InputError>([&] { path_of_key(runs, "query"); }), "did you mean step.queries?");
  // Nearest first, and nothing besides.
  EXPECT_TRUE(message_of<InputError>([&] { path_of_key(runs, "qeries"); }).ends_with("; did you mean step.queries?"));
  EXPECT_TRUE(message_of<InputError>([&] { path_of_key(runs, "sead"); }).ends_with("; did you mean seed?"));
  EXPECT_SAYS(message_of<InputError>([&] { path_of_key(runs, "xyz"); }),
              "in its configuration. What tells the runs apart is step.mode, step.queries, seed");
  EXPECT_SAYS(message_of<InputError>([&] { path_of_key({runs[0]}, "xyz"); }),
              "do not differ in any key; they have gradient_clipping, seed");
}

// The value that most runs have is shown like any other, and a key that no run of a mode has another value of not at all there.
TEST_F(PlotXValues, GroupsShowTheirValueOfEveryKeyThatTheirKindDiffersIn) {
  int count = 0;
  const auto make = [&](const nlohmann::json& step, double lr, const nlohmann::json& more = {}) {
    nlohmann::json config{{"step", step}, {"optimizer", {{"params", {{"lr", lr}}}}}};
    if (!more.is_null()) config.update(more);
    made_.make("run" + std::to_string(++count), {{"step", {"0"}}, {"loss", {"1"}}}, config);
  };
  for (double lr : {0.001, 0.01}) make({{"mode", "fo"}}, lr);
  for (int queries : {2, 4, 8}) make({{"mode", "zo"}, {"queries", queries}}, 0.001);
  make({{"mode", "calibrate"}, {"queries", 2}}, 0.5);
  const auto labels = [&] { return group_by_settings(load_runs(find_runs({made_.path("runs")}), {}, 1, notes_)).labels; };
  EXPECT_EQ(labels(),
            (std::vector<std::string>{"calibrate", "fo, lr 0.001", "fo, lr 0.01", "zo, queries 2", "zo, queries 4", "zo, queries 8"}));
  // A key that some runs of a mode do not have.
  make({{"mode", "calibrate"}, {"queries", 2}}, 0.5, {{"gradient_clipping", 1.0}});
  EXPECT_EQ(labels()[0], "calibrate");
  EXPECT_EQ(labels()[1], "calibrate, gradient_clipping 1.0");
  // Of one mode, which is not named then.
  std::filesystem::remove_all(made_.path("runs"));
  make({{"mode", "fo"}}, 0.5);
  make({{"mode", "fo"}}, 0.5, {{"gradient_clipping", 1.0}});
  EXPECT_EQ(labels(), (std::vector<std::string>{"gradient_clipping 1.0", "without gradient_clipping"}));
}

// Numbers within the names of groups count as such, with fractions and exponents.
TEST_F(PlotXValues, GroupsAreInTheOrderOfTheirNumbers) {
  for (const char* mode : {"zo", "fo"})
    for (double lr : {0.1, 0.01, 0.25, 1e-5, -0.5, -0.25})
      made_.make(std::string(mode) + cells({lr})[0], {{"step", {"0"}}, {"loss", {"1"}}},
                 {{"step", {{"mode", mode}}}, {"optimizer", {{"params", {{"lr", lr}}}}}});
  const std::vector<PlotRun> runs = load_runs(find_runs({made_.path("runs")}), {}, 2, notes_);
  std::vector<std::string> wanted;
  for (const char* mode : {"fo", "zo"})
    for (const char* lr : {"-0.5", "-0.25", "1e-05", "0.01", "0.1", "0.25"}) wanted.push_back(std::string(mode) + ", lr " + lr);
  EXPECT_EQ(group_by_settings(runs).labels, wanted);
  EXPECT_EQ(group_by_key(runs, "optimizer.params.lr", false).labels,
            (std::vector<std::string>{"-0.5", "-0.25", "1e-05", "0.01", "0.1", "0.25"}));
}

// Runs that are not among those asked for are in no group, and leave the others' colors and order as they are without them.
TEST_F(PlotXValues, GroupsMayBeOfSomeRuns) {
  for (const char* queries : {"8", "4", "16"})
    made_.make(std::string("q") + queries, {{"step", {"0"}}, {"loss", {"1"}}},
               {{"step", {{"mode", "zo"}, {"queries", std::stoi(queries)}}}});
  const std::vector<PlotRun> runs = load_runs(find_runs({made_.path("runs")}), {}, 2, notes_);  // q16, q4, q8
  const std::vector<size_t> among{0, 2};
  const Grouping some = group_by_key(runs, among, "step.queries"), alone = group_by_key({runs[0], runs[2]}, "step.queries");
  EXPECT_EQ(some.labels, (std::vector<std::string>{"queries 8", "queries 16"}));
  EXPECT_EQ(some.of_run, (std::vector<size_t>{1, kNoGroup, 0}));
  EXPECT_EQ(some.order(), (std::vector<size_t>{2, 0}));
  EXPECT_EQ(some.labels, alone.labels);
  for (size_t i = 0; i < 2; ++i) EXPECT_EQ(some.colors[i].red, alone.colors[i].red);
}

}  // namespace
}  // namespace zerostep
