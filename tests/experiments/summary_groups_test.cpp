#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <set>

#include "experiments/report/plot.h"
#include "tests/experiments/support/made_runs.h"
#include "tests/support/expect_says.h"

namespace zerostep {
namespace {

using nlohmann::json;
using testing::cells;
using testing::counted_cells;
using testing::MadeRuns;
using testing::rows_of;
using Texts = std::vector<std::string>;
using Indices = std::vector<size_t>;

// What of runs is compared with what, and which keys are told of them.
class SummaryGroups : public ::testing::Test {
 protected:
  void make(const std::string& name, const json& config, double loss, const MadeRuns::Columns& more = {}) const {
    MadeRuns::Columns columns{{"step", counted_cells(3)}, {"loss", cells({loss, loss, loss})}};
    columns.insert(columns.end(), more.begin(), more.end());
    made_.make(name, columns, config);
  }
  PlotResult draw(std::vector<std::string> views = {"loss"}) const {
    PlotRequest request;
    request.places = {made_.path("runs")};
    request.views = std::move(views);
    request.out = made_.path("out");
    return plot(request);
  }
  static json of(const char* task, const char* eval, json more = json::object()) {
    more["model"] = {{"task", task}};
    more["data"]["eval"] = json::array({eval});
    more["data"]["tokenizer"] = "byte";
    return more;
  }
  MadeRuns made_;
};

TEST_F(SummaryGroups, RunsAreRankedAmongThoseOfOneTaskAndEvaluation) {
  make("a", of("causal_lm", "news.txt", {{"seed", 1}}), 3);
  make("b", of("causal_lm", "news.txt", {{"seed", 2}}), 2);
  make("c", of("classification", "labels.tsv", {{"seed", 1}}), 0.5);
  make("d", of("classification", "labels.tsv", {{"seed", 2}}), 0.4);
  make("e", of("causal_lm", "books.txt"), 1);
  const Summary summary = draw().summary;
  const std::vector<Ranking> rankings = summary.rankings(5);
  ASSERT_EQ(rankings.size(), 2u);
  EXPECT_EQ(rankings[0].best, (Indices{1, 0}));
  EXPECT_EQ(rankings[0].of, "causal_lm with the tokenizer byte, evaluated on news");
  EXPECT_EQ(rankings[1].best, (Indices{3, 2}));
  EXPECT_EQ(rankings[1].of, "classification, evaluated on labels");
  EXPECT_EQ(summary.unranked(), Indices{4});
  EXPECT_TRUE(std::isnan(summary.common_loss));  // of two tasks
  const std::string text = made_.read("out/summary.txt"), page = made_.read("out/report.html");
  EXPECT_SAYS(text, "best by final loss (classification, evaluated on labels): d (0.4), c (0.5)\n");
  EXPECT_SAYS(text, "not ranked, since no other run has its task and evaluation data (model.task, data.tokenizer, data.eval): e\n");
  EXPECT_SAYS(page, "<h2>Best 2 (classification, evaluated on labels)</h2>");
  EXPECT_SAYS(page, "not ranked, since no other run has its task");
}

TEST_F(SummaryGroups, KeysThatFollowFromTheModeStandApart) {
  // All of zo have the same estimator, which fo lacks; queries differ among them, and lr between the modes.
  make("a", {{"step", {{"mode", "fo"}}}, {"lr", 1}}, 1);
  make("b", {{"step", {{"mode", "zo"}, {"estimator", "central"}, {"queries", 2}}}, {"lr", 2}}, 2);
  make("c", {{"step", {{"mode", "zo"}, {"estimator", "central"}, {"queries", 4}}}, {"lr", 2}}, 3);
  const Summary summary = draw().summary;
  EXPECT_EQ(summary.keys, (Texts{"lr", "step.mode", "step.queries"}));
  EXPECT_EQ(summary.following, Texts{"step.estimator"});
  EXPECT_EQ(summary.runs[1].following, Texts{"central"});
  EXPECT_TRUE(made_.read("out/summary.csv").starts_with("run,lr,step.mode,step.queries,state,"));
  const json table = json::parse(summary_json(summary).dump());
  EXPECT_EQ(table["following_keys"], Texts{"step.estimator"});
  EXPECT_EQ(table["runs"][1]["keys"], json({{"lr", "2"}, {"step.mode", "zo"}, {"step.queries", "2"}, {"step.estimator", "central"}}));
  EXPECT_SAYS(made_.read("out/report.html"), "<details><summary>1 more key that follows from these</summary>");
  EXPECT_EQ(summary.rankings(5).size(), 1u);
}

// A file of earlier work says little of its run: what nothing is known of does not differ, and is no value either.
TEST_F(SummaryGroups, OfAFileWithoutConfigurationKeysAreNotKnown) {
  const json config{{"model", {{"task", "causal_lm"}}}, {"data", {{"tokenizer", "byte"}}}, {"train_batch_size", 4}, {"seed", 1}};
  json fo = config, zo = config;
  fo["step"] = {{"mode", "fo"}};
  zo["step"] = {{"mode", "zo"}, {"queries", 2}};
  zo["seed"] = 2;
  make("a", fo, 3);
  make("b", zo, 2);
  PlotRequest request;
  request.places = {made_.write("old.csv", "step,mode,q,batch_size,loss\n1,ZO,4,4,9\n2,ZO,4,4,8\n"), made_.path("runs")};
  request.views = {"loss"};
  request.out = made_.path("out");
  const Summary summary = plot(request).summary;
  EXPECT_EQ(summary.keys, (Texts{"seed", "step.mode", "step.queries"}));
  EXPECT_EQ(summary.following, Texts());
  EXPECT_EQ(summary.runs[0].values, (Texts{"", "zo", "4"}));
  EXPECT_EQ(summary.runs[0].unknown_keys, std::set<std::string>{"seed"});
  EXPECT_TRUE(summary.runs[1].unknown_keys.empty());
  const std::string page = made_.read("out/report.html");
  EXPECT_SAYS(page, ">seed</td><td class=\"wrap\">1 (1), 2 (1), not known (1)<");
  // Of which task the file's losses are is not known either, and so they have no common loss.
  EXPECT_TRUE(std::isnan(summary.common_loss));
  EXPECT_SAYS(page,
              "<h2>Time to a common loss</h2>\n<p>None: losses can be compared where they are of one task and tokenizer; here these are "
              "causal_lm with the tokenizer byte (2 runs), not known of 1 run.</p>");
}

// What the schema says to have no effect in a run tells nothing apart, as in a sweep.
TEST_F(SummaryGroups, KeysWithoutEffectAreNoneOfARun) {
  for (const int seed : {1, 2}) {
    const std::string end = std::to_string(seed);
    const json given{{"zo_steps", seed}, {"queries", 2}, {"rank", seed}};  // of which full directions and steps of one kind have no use
    for (const char* mode : {"fo", "zo"}) {
      json step = given;
      step["mode"] = mode;
      make(mode + end, {{"step", step}, {"seed", seed}, {"tensorboard", {{"enabled", seed == 2}}}, {"run", {{"plot", seed == 2}}}}, 1);
    }
  }
  json step{{"mode", "alternating"}, {"zo_steps", 2}, {"queries", 2}};
  make("alternating", {{"step", step}, {"seed", 1}}, 1);
  const Summary summary = draw({"compare"}).summary;
  EXPECT_EQ(summary.keys, (Texts{"run.plot", "seed", "step.mode", "tensorboard.enabled"}));
  EXPECT_EQ(summary.following, (Texts{"step.queries", "step.zo_steps"}));
  // Nor is a run of other settings one that is watched in another way.
  std::set<std::string> groups;
  for (const Texts& row : rows_of(made_.read("out/compare.tsv")))
    if (row.size() > 2 && row[2].starts_with("loss")) groups.insert(row[1]);
  EXPECT_EQ(groups, (std::set<std::string>{"alternating", "fo", "zo"}));
}

TEST_F(SummaryGroups, OfASweepTheKeysThatItSetsAreTold) {
  make("a", {{"step", {{"mode", "fo"}}}, {"width", 1}, {"lr", 1}}, 1);
  make("b", {{"step", {{"mode", "zo"}}}, {"width", 2}, {"lr", 2}}, 2);
  made_.write("runs/sweep.json", R"({"base": {}, "grid": {"step.mode": ["fo", "zo"]}, "when": [{"if": {}, "grid": {"lr": [1, 2]}}]})");
  const Summary summary = draw().summary;
  EXPECT_EQ(summary.keys, (Texts{"lr", "step.mode"}));
  EXPECT_EQ(summary.following, Texts{"width"});
}

TEST_F(SummaryGroups, MixturesAreToldByTheirSourcesAndWeights) {
  const auto mixture = [](double weight, const char* text) {
    return json{{"data",
                 {{"train",
                   {{{"name", "alpha"}, {"files", {"a.jsonl"}}, {"weight", weight}, {"text", text}},
                    {{"files", {"x/beta.jsonl"}}, {"weight", 1}}}}}}};
  };
  make("a", mixture(3, "body"), 1);
  make("b", mixture(0.5, "body"), 2);
  EXPECT_EQ(draw().summary.runs[0].values, Texts{"alpha_3+beta_1"});
  EXPECT_EQ(draw().summary.runs[1].values, Texts{"alpha_0.5+beta_1"});
  // Another value of the same text has a hash, and so has the first: which of them a text is of is not to be guessed.
  make("c", mixture(3, "title"), 2);
  const Summary summary = draw().summary;
  EXPECT_EQ(summary.runs[0].values[0].substr(0, 15), "alpha_3+beta_1-");
  EXPECT_EQ(summary.runs[1].values, Texts{"alpha_0.5+beta_1"});
  EXPECT_NE(summary.runs[0].values, summary.runs[2].values);
}

TEST_F(SummaryGroups, EveryEvaluationSetIsDrawnAndTheAccuracyToo) {
  const MadeRuns::Columns sets{
      {"eval_loss", {"3", "", "2"}},       {"eval_accuracy", {"0.5", "", "0.75"}},      {"eval_loss.news", {"3", "", "2"}},
      {"eval_loss.books", {"4", "", "1"}}, {"eval_accuracy.news", {"0.5", "", "0.75"}}, {"eval_accuracy.books", {"0.25", "", "1"}}};
  make("a", json::object(), 1, sets);
  draw({});
  const auto values = [&](const char* view, const char* what) {
    Texts out;
    for (const Texts& row : rows_of(made_.read(std::string("out/") + view + ".tsv")))
      if (row.size() > 4 && row[2] == what) out.push_back(row[4]);
    return out;
  };
  EXPECT_EQ(values("loss", "eval_loss.news"), (Texts{"3", "2"}));
  EXPECT_EQ(values("loss", "eval_loss.books"), (Texts{"4", "1"}));
  EXPECT_EQ(values("loss", "eval_loss"), Texts());  // which is that of the first set
  EXPECT_EQ(values("accuracy", "eval_accuracy.books"), (Texts{"0.25", "1"}));
  const std::string loss = made_.read("out/loss.svg"), accuracy = made_.read("out/accuracy.svg");
  for (const char* text : {">training<", ">evaluation, news<", ">evaluation, books<"}) EXPECT_SAYS(loss, text);
  EXPECT_SAYS(accuracy, ">evaluation, books<");
  EXPECT_SAYS(loss, "<circle");  // where the two evaluations are
  // Without named sets there is one curve a run.
  make("a", json::object(), 1, {{"eval_loss", {"3", "", "2"}}, {"eval_accuracy", {"0.5", "", "0.75"}}});
  draw({});
  EXPECT_EQ(values("loss", "eval_loss"), (Texts{"3", "2"}));
  EXPECT_SAYS(made_.read("out/loss.svg"), ">evaluation<");
  EXPECT_EQ(values("accuracy", "eval_accuracy"), (Texts{"0.5", "0.75"}));
}

TEST_F(SummaryGroups, ARunHasOneColorInAllPictures) {
  make("z", {{"step", {{"mode", "alternating"}}}}, 1);
  make("a", {{"step", {{"mode", "fo"}}}}, 2);
  draw({"loss", "compare"});
  const auto color = [&](const char* view, const char* run) {
    for (const Texts& row : rows_of(made_.read(std::string("out/") + view + ".tsv")))
      if (row.size() > 7 && row[1] == run) return row[7];
    return std::string("none");
  };
  EXPECT_EQ(color("loss", "z"), color("compare", "alternating"));
  EXPECT_EQ(color("loss", "a"), color("compare", "fo"));
  EXPECT_NE(color("loss", "a"), color("loss", "z"));
}

}  // namespace
}  // namespace zerostep
