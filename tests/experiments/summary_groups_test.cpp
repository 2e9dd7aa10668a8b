#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

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

TEST_F(SummaryGroups, OfASweepTheKeysThatItSetsAreTold) {
  make("a", {{"step", {{"mode", "fo"}, {"rank", 1}}}, {"lr", 1}}, 1);
  make("b", {{"step", {{"mode", "zo"}, {"rank", 2}}}, {"lr", 2}}, 2);
  made_.write("runs/sweep.json", R"({"base": {}, "grid": {"step.mode": ["fo", "zo"]}, "when": [{"if": {}, "grid": {"lr": [1, 2]}}]})");
  const Summary summary = draw().summary;
  EXPECT_EQ(summary.keys, (Texts{"lr", "step.mode"}));
  EXPECT_EQ(summary.following, Texts{"step.rank"});
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
