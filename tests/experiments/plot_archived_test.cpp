#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "experiments/report/plot.h"
#include "experiments/sweep/journal.h"
#include "tests/experiments/support/made_runs.h"
#include "tests/support/expect_says.h"
#include "tests/support/message_of.h"

namespace zerostep {
namespace {

using testing::cells;
using testing::counted_cells;
using testing::MadeRuns;
using testing::message_of;
using Texts = std::vector<std::string>;

// A sweep in `runs`, some of whose runs are packed and gone.
class PlotArchived : public ::testing::Test {
 protected:
  void make_folder(const std::string& name, double lr) const {
    made_.make(name, {{"step", counted_cells(2)}, {"loss", cells({4, 3})}, {"eval_loss", cells({4, 3})}},
               {{"optimizer", {{"params", {{"lr", lr}}}}}, {"train_batch_size", 4}});
  }
  void archive(const std::string& name, double lr, SweepState state, double loss, bool has_diverged = false) const {
    archive(name, KeyValues{{"optimizer.params.lr", lr}}, state, loss, has_diverged);
  }
  void archive(const std::string& name, const KeyValues& values, SweepState state, double loss, bool has_diverged = false) const {
    std::filesystem::create_directories(made_.path("runs"));
    Journal journal(made_.path("runs/journal.jsonl"));
    SweepRow row;
    row.run = name;
    row.values = values;
    journal.start(row, {"zerostep", "train"});
    row.state = state;
    row.steps = 40;
    row.final_loss = loss;
    row.has_diverged = has_diverged;
    row.best_eval_loss = loss - 0.5;
    row.tokens_per_second = 1280;
    row.device_peak_bytes = 1000000;
    if (state == SweepState::Failed) row.error = "step 41: the disk is full";
    if (state == SweepState::Killed) row.error = "killed by SIGKILL";
    journal.end(row);
    journal.archived(name, "/kept/" + name + ".tar", state == SweepState::Done);
  }
  PlotResult draw() const {
    PlotRequest request;
    request.places = {made_.path("runs")};
    request.views = {"loss"};
    request.out = made_.path("out");
    return plot(request);
  }
  MadeRuns made_;
};

TEST_F(PlotArchived, HaveARowWithTheFiguresOfTheJournal) {
  make_folder("lr=0.5", 0.5);
  make_folder("lr=0.25", 0.25);
  archive("lr=0.25", 0.25, SweepState::Done, 9);  // packed, and its folder is still there
  archive("lr=0.125", 0.125, SweepState::Done, 2);
  archive("lr=2", 2, SweepState::Failed, 1);
  const PlotResult result = draw();
  EXPECT_EQ(result.notes, (Texts{"2 runs are archived: their rows are without curves, with the figures of the sweep's journal: lr=0.125 "
                                 "(/kept/lr=0.125.tar), lr=2 (/kept/lr=2.tar)"}));
  ASSERT_EQ(result.summary.runs.size(), 4U);
  EXPECT_EQ(result.summary.keys, (Texts{"optimizer.params.lr"}));  // nothing is known of the other key, so it does not differ
  const nlohmann::json json = nlohmann::json::parse(summary_json(result.summary).dump());
  const nlohmann::json& done = json["runs"][2];
  EXPECT_EQ(done["name"], "lr=0.125");
  EXPECT_EQ(done["state"], "archived");
  EXPECT_EQ(done["path"], "/kept/lr=0.125.tar");
  EXPECT_EQ(done["steps"], 40);
  EXPECT_EQ(done["final_loss"], 2);
  EXPECT_EQ(done["best_eval_loss"], 1.5);
  EXPECT_EQ(done["tokens_per_second"], 1280);
  EXPECT_EQ(done["device_peak_bytes"], 1000000);
  EXPECT_EQ(done["seconds"], nullptr);
  EXPECT_EQ(done["steps_to_common_loss"], nullptr);
  EXPECT_EQ(done["keys"]["optimizer.params.lr"], "0.125");
  EXPECT_EQ(json["runs"][3]["state"], "failed, archived");
  EXPECT_EQ(json["runs"][3]["error"], "step 41: the disk is full");
  EXPECT_EQ(json["common_loss"], 3);
  EXPECT_EQ(result.summary.rankings(5).at(0).best, (std::vector<size_t>{2, 0, 1}));  // 1.5, then 3 and 3
  EXPECT_SAYS(made_.read("out/summary.csv"), "lr=0.125,0.125,archived,40,2,1.5,");
  const std::string text = made_.read("out/summary.txt"), page = made_.read("out/report.html");
  for (const char* state : {"archived", "failed, archived"}) {
    EXPECT_SAYS(text, state);
    EXPECT_SAYS(page, ">" + std::string(state) + "</span>");
  }
  EXPECT_SAYS(page, "title=\"/kept/lr=0.125.tar\"");
  EXPECT_SAYS(page, "2 runs are archived");
  // It has no curve.
  EXPECT_EQ(made_.read("out/loss.tsv").find("0.125"), std::string::npos);
}

// As of a run whose folder is there.
TEST_F(PlotArchived, WithAFlawAreNoneOfTheBest) {
  make_folder("lr=0.5", 0.5);
  archive("lr=1", 1, SweepState::Killed, 0.5);
  archive("lr=2", 2, SweepState::Done, 1, true);
  archive("lr=3", 3, SweepState::Interrupted, 2);
  const Summary summary = draw().summary;
  ASSERT_EQ(summary.runs.size(), 4U);
  Texts states, flaws;
  for (const RunSummary& run : summary.runs) {
    states.push_back(run.state_text());
    flaws.push_back(run.flaw());
  }
  EXPECT_EQ(states, (Texts{"done", "killed, archived", "archived", "interrupted, archived"}));
  EXPECT_EQ(flaws, (Texts{"", "killed", "diverged", ""}));
  EXPECT_EQ(summary.rankings(5).at(0).best, (std::vector<size_t>{3, 0}));  // 1.5, then 3
  EXPECT_SAYS(made_.read("out/summary.txt"), "left out of means and of the best: lr=1 (killed), lr=2 (diverged)\n");
  EXPECT_SAYS(made_.read("out/report.html"), "killed by SIGKILL");
}

TEST_F(PlotArchived, MayHaveAKeyAndItsOwnBlock) {
  make_folder("lr=0.5", 0.5);
  const KeyValues block{{"scheduler", {{"type", "Cosine"}, {"params", {{"warmup_num_steps", 3}}}}}, {"scheduler.type", "Linear"}};
  archive("a", block, SweepState::Done, 2);
  archive("b", KeyValues{{"scheduler", "none"}, {"scheduler.type", "Linear"}, {"odd~key", 1}}, SweepState::Done, 2);
  const PlotResult result = draw();
  const nlohmann::json json = nlohmann::json::parse(summary_json(result.summary).dump());
  ASSERT_EQ(json["runs"].size(), 3U);
  EXPECT_EQ(json["runs"][1]["keys"]["scheduler.params.warmup_num_steps"], "3");
  EXPECT_EQ(json["runs"][2]["keys"]["scheduler.params.warmup_num_steps"], "");
  EXPECT_EQ(json["runs"][1]["keys"]["odd~key"], "");
  EXPECT_EQ(json["runs"][2]["keys"]["odd~key"], "1");
}

TEST_F(PlotArchived, OfASweepWithoutAnyOtherRunAreNamedInTheError) {
  archive("lr=1", 1, SweepState::Done, 9);
  EXPECT_SAYS(
      message_of<InputError>([&] { draw(); }),
      made_.path("runs") + ": all of its runs are archived, so there is nothing to draw: lr=1 (/kept/lr=1.tar). Unpack one into the");
}

TEST_F(PlotArchived, AreSaidToBeUnknownWhereTheJournalIsDamaged) {
  make_folder("lr=0.5", 0.5);
  made_.write("runs/journal.jsonl", "no event\n");
  const PlotResult result = draw();
  ASSERT_EQ(result.notes.size(), 1U);
  EXPECT_SAYS(result.notes[0], "archived runs of a sweep are not known: " + made_.path("runs/journal.jsonl") + ": line 1 is no event");
}

// Points of a sweep that were too large, or never had their turn.
class PlotNotBegun : public PlotArchived {
 protected:
  // runs.csv of a sweep in a folder, with the journal that makes it one.
  void sweep(const std::vector<SweepRow>& rows, const std::string& folder = "runs") const {
    std::filesystem::create_directories(made_.path(folder));
    Journal(made_.path(folder + "/journal.jsonl")).begin("many", rows.size(), false);
    made_.write(folder + "/runs.csv", runs_csv(rows));
  }
  static SweepRow row(const std::string& run, const KeyValues& values, SweepState state, const std::string& error, int64_t steps = 0) {
    SweepRow out;
    out.run = run;
    out.values = values;
    out.state = state;
    out.error = error;
    out.steps = steps;
    return out;
  }
};

TEST_F(PlotNotBegun, AreNamedTogetherWithTheOthers) {
  make_folder("one/lr=0.5", 0.5);
  for (const char* folder : {"runs/one", "runs/two"}) sweep({row("seed=1", {{"seed", 1}}, SweepState::Queued, "")}, folder);
  const PlotResult result = draw();
  EXPECT_EQ(result.notes, (Texts{"2 runs have come to no step and have a row alone: one/seed=1 (queued), two/seed=1 (queued)"}));
  Texts names;
  for (const auto& run : result.summary.runs) names.push_back(run.name);
  EXPECT_EQ(names, (Texts{"one/lr=0.5", "one/seed=1", "two/seed=1"}));
}

TEST_F(PlotNotBegun, HaveARowWithTheirReasonAndAreInNothingElse) {
  make_folder("lr=0.5", 0.5);
  make_folder("lr=0.25", 0.25);
  const std::string why = "a rank needs 35.2 TiB, \"at the peak\"\nthere are 22.7 GiB: 35.1 TiB are missing";
  using enum SweepState;
  sweep({row("lr=0.5", {{"optimizer.params.lr", 0.5}}, Done, "", 2), row("lr=0.25", {{"optimizer.params.lr", 0.25}}, Done, "", 2),
         row("n_layer=3000", {{"model.n_layer", 3000}}, Failed, why), row("lr=1", {{"optimizer.params.lr", 1e-30}}, Queued, ""),
         row("taken", {}, Done, "", 2),           // somebody has taken its folder away
         row("taken too", {}, Failed, "nan", 1),  // and that of one that had begun
         row("begins", {}, Running, ""),          // its table is about to be there
         row("stopped", {}, Interrupted, "early")});
  const PlotResult result = draw();
  EXPECT_EQ(result.notes,
            (Texts{"3 runs have come to no step and have a row alone: n_layer=3000 (failed), lr=1 (queued), stopped (interrupted)"}));
  const nlohmann::json json = nlohmann::json::parse(summary_json(result.summary).dump());
  ASSERT_EQ(json["runs"].size(), 5U);
  EXPECT_EQ(result.summary.keys, (Texts{"model.n_layer", "optimizer.params.lr"}));
  const nlohmann::json& large = json["runs"][2];
  EXPECT_EQ(large["name"], "n_layer=3000");
  EXPECT_EQ(large["state"], "failed");
  EXPECT_EQ(large["error"], why);
  EXPECT_EQ(large["keys"]["model.n_layer"], "3000");
  EXPECT_EQ(large["keys"]["optimizer.params.lr"], "");
  EXPECT_EQ(large["steps"], 0);
  EXPECT_EQ(large["final_loss"], nullptr);
  EXPECT_EQ(json["runs"][3]["state"], "queued");
  EXPECT_EQ(json["runs"][3]["keys"]["optimizer.params.lr"], "1e-30");
  EXPECT_EQ(json["common_loss"], 3);
  EXPECT_EQ(result.summary.rankings(5).at(0).best, (std::vector<size_t>{0, 1}));
  EXPECT_TRUE(result.summary.unranked().empty());
  const std::string text = made_.read("out/summary.txt"), page = made_.read("out/report.html");
  EXPECT_SAYS(text, "failed: n_layer=3000: a rank needs 35.2 TiB");
  EXPECT_SAYS(made_.read("out/summary.csv"), "n_layer=3000,3000,,failed,0,");
  EXPECT_SAYS(page, "<p class=\"pale\">5 runs, ");
  const std::string not_ended = page.substr(page.find("Runs that did not end"));
  EXPECT_SAYS(not_ended, "35.1 TiB are missing");
  EXPECT_SAYS(not_ended, "it has not begun");
  EXPECT_EQ(made_.read("out/loss.tsv").find("3000"), std::string::npos);
}

TEST_F(PlotNotBegun, AreAReportAlsoWhereThereIsNoOtherRun) {
  sweep({row("n_layer=3000", {{"model.n_layer", 3000}}, SweepState::Failed, "35.1 TiB are missing")});
  PlotRequest request;
  request.places = {made_.path("runs")};
  request.out = made_.path("out");
  const PlotResult result = plot(request);
  EXPECT_EQ(result.files, (Texts{"summary.csv", "summary.txt", "report.html"}));
  EXPECT_EQ(result.notes.at(1), "there is no picture, since no run has a step with a number to draw yet");
  EXPECT_SAYS(made_.read("out/report.html"), "35.1 TiB are missing");
  EXPECT_SAYS(made_.read("out/summary.txt"), "failed: n_layer=3000: 35.1 TiB are missing");
  // Another place has to hold a run of its own.
  made_.write("other/notes.txt", "");
  request.places.push_back(made_.path("other"));
  EXPECT_SAYS(message_of<InputError>([&] { plot(request); }), "other holds no run");
}

TEST_F(PlotNotBegun, AreSaidToBeUnknownWhereTheTableOfTheSweepIsDamaged) {
  make_folder("lr=0.5", 0.5);
  sweep({});
  for (const char* text : {"", "run,state\n",
                           "run,state,device,exit,started,seconds,steps,loss,best_eval_loss,device_peak_bytes,"
                           "tokens_per_second,error\na,gone,,,,,,,,,,\n"}) {
    made_.write("runs/runs.csv", text);
    const PlotResult result = draw();
    ASSERT_EQ(result.notes.size(), 1U);
    EXPECT_SAYS(result.notes[0], "runs of a sweep that have not begun are not known: " + made_.path("runs/runs.csv") + ": row ");
  }
}

}  // namespace
}  // namespace zerostep
