#include "experiments/sweep/former_runs.h"

#include <gtest/gtest.h>

#include <fstream>

#include "base/error.h"
#include "experiments/sweep/former_base.h"
#include "tests/support/expect_says.h"
#include "tests/support/message_of.h"
#include "tests/support/scratch_folder.h"

namespace zerostep {
namespace {

namespace fs = std::filesystem;
using testing::message_of;
using Names = std::vector<std::string>;

constexpr const char* kBase = R"({"train_batch_size": 4, "seed": 3, "optimizer": {"type": "AdamW", "params": {"lr": 1e-3}},
  "model": {"family": "gpt2", "n_layer": 1, "n_embd": 32, "n_head": 2, "n_positions": 32, "vocab_size": 257},
  "data": {"train": "text.txt", "tokenizer": "byte", "sequence_length": 16}, "run": {"steps": 8}})";

class FormerRunsOf : public ::testing::Test {
 protected:
  // Points of a sweep file with these blocks beside its base.
  std::vector<SweepPoint> points(const std::string& blocks) {
    const std::string path = scratch_.path("sweep.json");
    std::ofstream(path) << "{\"base\": " << kBase << ", " << blocks << "}";
    return points_of(read_sweep_file(path), base_, {});
  }
  // The runs of such a file, as a journal tells of them when they are done.
  FormerRuns done(const std::string& blocks) {
    FormerRuns out;
    for (const SweepPoint& point : points(blocks)) {
      FormerRun& run = out[point.name];
      run.row.run = point.name;
      run.row.state = SweepState::Done;
      run.command = {"zerostep", "train", "base.json"};
      for (const Setting& setting : point.set) run.command.insert(run.command.end(), {"--set", setting.text});
      run.command.insert(run.command.end(), {"--set", "run.name=\"x\"", "--set", "run.checkpoint_interval=7"});
    }
    return out;
  }
  Names names(const std::string& blocks, const FormerRuns& former) {
    std::vector<SweepPoint> all = points(blocks);
    notes_ = keep_former_names(all, former, base_, 1);
    Names out;
    for (const SweepPoint& point : all) out.push_back(point.name);
    return out;
  }
  // A run's folder below the sweep's, with three rows.
  void make(const std::string& run, const std::string& log) {
    fs::create_directories(scratch_.folder() / run);
    std::ofstream(scratch_.folder() / run / "metrics.csv") << "step,loss\n0,3\n1,2\n2,1\n";
    std::ofstream(scratch_.folder() / run / "log.txt") << log;
  }
  ScratchFolder scratch_;
  const SweepBase base_{"sweep.json: base", kBase};
  Names notes_;
};

TEST_F(FormerRunsOf, AKeyThatIsNewInTheFileRenamesNoRun) {
  const FormerRuns former = done(R"("grid": {"optimizer.params.lr": [0.1, 0.01]})");
  // The seed of the base is 3.
  EXPECT_EQ(names(R"("grid": {"optimizer.params.lr": [0.1, 0.01]}, "repeat": {"seed": [3, 4]})", former),
            (Names{"lr=0.1", "lr=0.1,seed=4", "lr=0.01", "lr=0.01,seed=4"}));
  EXPECT_EQ(notes_, Names{"2 runs keep the names of their folders: lr=0.1,seed=3 is lr=0.1, lr=0.01,seed=3 is lr=0.01"});
  // Nothing is said where nothing has changed.
  EXPECT_EQ(names(R"("grid": {"optimizer.params.lr": [0.1, 0.01]})", former), (Names{"lr=0.1", "lr=0.01"}));
  EXPECT_TRUE(notes_.empty());
  // A key without effect where it stands tells nothing apart, and another base value none of these runs.
  EXPECT_EQ(names(R"("grid": {"optimizer.params.lr": [0.1], "step.queries": [5], "step.mode": ["fo", "zo"]})", former),
            (Names{"lr=0.1", "lr=0.1,mode=zo,queries=5"}));
  EXPECT_EQ(notes_, (Names{"1 run keeps the name of its folder: lr=0.1,mode=fo is lr=0.1",
                           "1 run of the folder is no point of the file any more and stays as it is: lr=0.01"}));
}

TEST_F(FormerRunsOf, ARunOfOtherValuesKeepsItsNameToItself) {
  FormerRuns former = done(R"("repeat": {"seed": [5]})");
  std::vector<std::string>& command = former.at("seed=5").command;
  command.insert(command.begin() + 3, {"--set", "run.steps=9"});
  EXPECT_EQ(names(R"("repeat": {"seed": [5]})", former), Names{"seed=5-2"});
  EXPECT_EQ(notes_, (Names{"1 run gets a number, since a former run of other values has its name: seed=5-2",
                           "1 run of the folder is no point of the file any more and stays as it is: seed=5"}));
}

TEST_F(FormerRunsOf, AnotherSpellingOfTheFileStartsNoRunAgain) {
  const FormerRuns former = done(R"("grid": {"model.dropout": [0.1, 0.2]})");
  const std::string spelled =
      R"("runs": [{"model.resid_pdrop": 0.2, "model.embd_pdrop": 0.2, "model.attn_pdrop": 0.2}, {"model.dropout": 0.1},
                                          {"model.resid_pdrop": 0.1}])";
  EXPECT_EQ(names(spelled, former), (Names{"dropout=0.2", "dropout=0.1", "resid_pdrop=0.1"}));
}

// What is not said of the batch depends on the ranks.
TEST_F(FormerRunsOf, ARunOfOtherRanksIsAnotherUnlessTheBatchIsTheSame) {
  for (const bool says_batch : {true, false}) {
    std::string text = kBase;
    if (!says_batch) text.replace(text.find("train_batch_size"), std::string("train_batch_size").size(), "train_micro_batch_size_per_gpu");
    const SweepBase base{"sweep.json: base", text};
    const std::string path = scratch_.path("sweep.json");
    FormerRuns former = done(R"("repeat": {"seed": [1]})");  // which writes a sweep file too
    std::ofstream(path) << "{\"base\": " << text << R"(, "repeat": {"seed": [1]}, "resources": {"ranks": 2}})";
    std::vector<SweepPoint> all = points_of(read_sweep_file(path), base, {});
    keep_former_names(all, former, base, 1);
    EXPECT_EQ(all[0].name, says_batch ? "seed=1" : "seed=1-2");
    std::vector<std::string>& command = former.at("seed=1").command;
    const std::vector<std::string> mpirun{"mpirun", "--oversubscribe", "-np", "2"};
    command.insert(command.begin(), mpirun.begin(), mpirun.end());
    all = points_of(read_sweep_file(path), base, {});
    keep_former_names(all, former, base, 1);
    EXPECT_EQ(all[0].name, "seed=1");
  }
}

TEST_F(FormerRunsOf, AnotherBaseIsRefusedByTheKeysThatDiffer) {
  std::string goes_on;
  const auto said = [&](const std::string& blocks, const std::string& base) {
    const std::string path = scratch_.path("sweep.json");
    std::ofstream(path) << "{\"base\": " << base << ", " << blocks << "}";
    const SweepFile file = read_sweep_file(path);
    const std::vector<SweepPoint> all = points_of(file, {"sweep.json: base", base}, {});
    const nlohmann::json now = nlohmann::json::parse(base);
    goes_on = resuming_command(file, all, base_, now, "zerostep sweep sweep.json");
    return message_of<InputError>([&] { require_same_base(file, all, base_, now, "zerostep sweep sweep.json --resume"); });
  };
  const auto changed = [](const std::string& from, const std::string& to) {
    std::string text = kBase;
    return text.replace(text.find(from), from.size(), to);
  };
  const std::string seeds = R"("repeat": {"seed": [1, 2]})";
  EXPECT_EQ(said(seeds, kBase), "nothing thrown");
  EXPECT_EQ(goes_on, "zerostep sweep sweep.json --resume");
  EXPECT_SAYS(
      said(seeds, changed("\"steps\": 8", "\"steps\": 9, \"eval_samples\": 5")),
      "began with (its sweep.json has that): run.eval_samples is 5 and was not given; run.steps is 9 and was 8. `zerostep sweep "
      "sweep.json --resume --set run.eval_samples=null --set run.steps=8` goes on with what it was, or give the sweep another name");
  EXPECT_EQ(goes_on, "zerostep sweep sweep.json --resume --set run.eval_samples=null --set run.steps=8");
  // Where the file has many others, the first are named.
  EXPECT_SAYS(said(seeds, changed("\"seed\": 3",
                                  "\"gradient_clipping\": 0, \"steps_per_print\": 3, \"bf16\": {\"enabled\": true}, "
                                  "\"zero_optimization\": {\"stage\": 1}, \"prescale_gradients\": true")),
              "; and 1 more. Take that back, or");
  EXPECT_EQ(goes_on, "");
  // What no run depends on, and what one says in another way, is no change.
  EXPECT_EQ(said(seeds, changed("\"seed\": 3", "\"seed\": 4")), "nothing thrown");
  EXPECT_EQ(said(seeds, changed("\"optimizer\"", "\"train_micro_batch_size_per_gpu\": 4, \"step\": {\"queries\": 9}, \"optimizer\"")),
            "nothing thrown");
  EXPECT_EQ(said(seeds, changed("\"steps\": 8", "\"steps\": 8, \"checkpoint_interval\": 3, \"keep_checkpoints\": 2")), "nothing thrown");
}

// Points may differ in what is kept of them alone.
TEST_F(FormerRunsOf, OneFormerRunIsThatOfOnePoint) {
  const FormerRuns former = done(R"("grid": {"run.keep_checkpoints": [2]})");
  EXPECT_EQ(names(R"("grid": {"run.keep_checkpoints": [4, 2]})", former), (Names{"keep_checkpoints=4", "keep_checkpoints=2"}));
  EXPECT_EQ(names(R"("grid": {"run.keep_checkpoints": [4, 5]})", former), (Names{"keep_checkpoints=2", "keep_checkpoints=5"}));
}

TEST_F(FormerRunsOf, RunsThatASearchHasLeftBehindGoOnWithoutIt) {
  FormerRows rows;
  rows.rows.resize(3);
  for (size_t i = 0; i < 3; ++i) rows.rows[i].run = std::string(1, static_cast<char>('a' + i));
  for (SweepRow& row : rows.rows) row.state = SweepState::Done;
  rows.rows[0].steps = rows.rows[2].steps = 2;
  rows.rows[1].steps = 4;
  rows.archived = {2};
  rows.ended_unheard = {0, 1};
  queue_shorter_runs(rows, {4, 4, 4});
  EXPECT_EQ(rows.rows[0].state, SweepState::Queued);
  EXPECT_EQ(rows.rows[1].state, SweepState::Done);
  EXPECT_EQ(rows.rows[2].state, SweepState::Done);
  EXPECT_EQ(rows.ended_unheard, std::vector<size_t>{1});
  EXPECT_EQ(rows.notes, Names{"1 run has fewer steps, of a search, and goes on: a"});
}

TEST_F(FormerRunsOf, AFolderThatTheJournalDoesNotKnowIsNotReplaced) {
  FormerRuns former = done(R"("repeat": {"seed": [1, 2]})");
  const std::vector<SweepPoint> all = points(R"("repeat": {"seed": [1, 2]})");
  make("seed=2", "");
  EXPECT_NO_THROW(refuse_unknown_folders(all, former, scratch_.folder()));
  former.erase("seed=2");
  try {
    refuse_unknown_folders(all, former, scratch_.folder());
    ADD_FAILURE() << "it is to be refused";
  } catch (const InputError& error) {
    EXPECT_SAYS(std::string(error.what()), "holds a run that journal.jsonl does not know, which a new one would replace: seed=2");
  }
}

TEST_F(FormerRunsOf, ARunWithoutACommandIsKnownByItsName) {
  FormerRuns former = done(R"("repeat": {"seed": [1, 2]})");
  former.at("seed=1").command.clear();
  former.at("seed=2").command = {"zerostep", "train", "base.json", "--set", "no.such.key=1"};
  EXPECT_EQ(names(R"("repeat": {"seed": [1, 2, 4]})", former), (Names{"seed=1", "seed=2", "seed=4"}));
  EXPECT_TRUE(notes_.empty());
}

TEST_F(FormerRunsOf, OfTwoRunsOfOneConfigurationTheOneThatIsDoneCounts) {
  FormerRuns former = done(R"("runs": [{"optimizer.params.lr": 0.1}])");
  former["a"] = former["z"] = former.at("lr=0.1");
  former.at("a").row.state = SweepState::Failed;
  former.at("lr=0.1").row.state = SweepState::Interrupted;
  EXPECT_EQ(names(R"("grid": {"optimizer.params.lr": [0.1], "seed": [3]})", former), Names{"z"});
}

// How ranks share a batch out tells runs of the same values apart, where the file says it.
TEST_F(FormerRunsOf, OfRunsOfTheSameValuesTheOneOfTheSameSharesCounts) {
  const std::string shares = R"("runs": [{"train_micro_batch_size_per_gpu": 1}, {"train_micro_batch_size_per_gpu": 2}])";
  FormerRuns former;
  for (auto& [name, run] : done(shares)) former["former " + name] = run;
  EXPECT_EQ(names(shares, former), (Names{"former train_micro_batch_size_per_gpu=1", "former train_micro_batch_size_per_gpu=2"}));
}

TEST_F(FormerRunsOf, RowsStandAsTheirFoldersTell) {
  FormerRuns former = done(R"("repeat": {"seed": [1, 2, 3, 4, 5, 6]})");
  former.at("seed=2").row.state = former.at("seed=3").row.state = SweepState::Interrupted;
  former.at("seed=4").row.state = SweepState::Failed;
  former.at("seed=5").row.steps = 3;
  former.at("seed=5").row.final_loss = 1;
  former.erase("seed=6");
  make("seed=1", "3 steps done in 1 s\n");
  make("seed=2", "stopped by SIGINT after 3 of 8 steps\n");
  make("seed=3", "3 steps done in 1 s\n");  // after its sweep was killed
  std::vector<SweepPoint> all = points(R"("repeat": {"seed": [1, 2, 3, 4, 5, 6]})");
  const auto states = [](const FormerRows& rows) {
    std::vector<SweepState> out;
    for (const SweepRow& row : rows.rows) out.push_back(row.state);
    return out;
  };
  using enum SweepState;
  FormerRows rows = former_rows(all, former, scratch_.folder(), false);
  EXPECT_EQ(states(rows), (std::vector<SweepState>{Done, Queued, Done, Failed, Queued, Queued}));
  EXPECT_EQ(rows.ended_unheard, std::vector<size_t>{2});
  EXPECT_EQ(rows.rows[1].steps, 3);
  EXPECT_EQ(rows.rows[4].steps, 0) << "its folder is gone";
  EXPECT_EQ(rows.rows[4].final_loss, std::nullopt);
  EXPECT_TRUE(rows.notes.empty());
  // What is left as it is, is told as its folder tells.
  former.at("seed=2").row.state = SweepState::Killed;
  const std::vector<SweepRow> stay = rows_that_stay({}, {all[1]}, {{"seed=2", former.at("seed=2")}}, scratch_.folder());
  EXPECT_EQ(stay.at(0).state, Interrupted) << "it has saved, after its sweep was killed";
  EXPECT_EQ(states(former_rows(all, former, scratch_.folder(), true))[3], Queued);
}

// Its journal tells when it began, its table how long it went on at least.
TEST_F(FormerRunsOf, TheTimeOfAProcessThatItsSweepDidNotSeeEndCounts) {
  FormerRuns former = done(R"("repeat": {"seed": [1, 2, 3, 4]})");
  for (auto& [name, run] : former) {
    make(name, name == "seed=4" ? "3 steps done in 1 s\n" : "");
    std::ofstream(scratch_.folder() / name / "metrics.csv") << "timestamp,step,loss\n2026-01-31T23:59:50.000Z,0,3\n"
                                                            << "2026-02-01T00:00:10.500Z,1,2\n2026-02-01T00:00:";
    run.row.state = SweepState::Killed;
    run.row.seconds = 7;  // of processes before
    run.runs_since = "2026-01-31T23:59:45.250Z";
  }
  former.at("seed=2").runs_since = "2026-02-01T00:01:00.000Z";  // it has left no row since
  former.at("seed=3").runs_since.clear();                       // and of this one the journal knows the end
  const std::vector<SweepPoint> all = points(R"("repeat": {"seed": [1, 2, 3, 4]})");
  const FormerRows rows = former_rows(all, former, scratch_.folder(), false);
  EXPECT_EQ(rows.ended_unheard, std::vector<size_t>{3});
  const std::vector<SweepRow> stay = rows_that_stay({}, all, former, scratch_.folder());
  for (const std::vector<SweepRow>* these : {&rows.rows, &stay}) {
    EXPECT_NEAR(these->at(0).seconds, 7 + 25.25, 1e-6);
    EXPECT_EQ(these->at(1).seconds, 7);
    EXPECT_EQ(these->at(2).seconds, 7);
    EXPECT_NEAR(these->at(3).seconds, 7 + 25.25, 1e-6);
  }
}

TEST_F(FormerRunsOf, AnArchivedRunIsDoneWhereItWasDone) {
  FormerRuns former = done(R"("repeat": {"seed": [1, 2, 3]})");
  former.at("seed=1").archive = "/kept/1.tar";
  former.at("seed=1").row.steps = 8;
  former.at("seed=1").row.final_loss = 0.5;
  std::ofstream(scratch_.folder() / "seed=2.tar") << "of which the journal does not know";
  former.at("seed=3").row.state = SweepState::Interrupted;
  former.at("seed=3").row.steps = 5;
  former.at("seed=3").archive = "/kept/3.tar";
  const FormerRows rows = former_rows(points(R"("repeat": {"seed": [1, 2, 3]})"), former, scratch_.folder(), false);
  EXPECT_EQ(rows.archived, (std::vector<size_t>{0}));
  EXPECT_EQ(rows.rows[0].state, SweepState::Done);
  EXPECT_EQ(rows.rows[0].steps, 8);
  EXPECT_EQ(rows.rows[0].final_loss, 0.5);
  EXPECT_EQ(rows.rows[1].state, SweepState::Queued);
  EXPECT_EQ(rows.rows[2].state, SweepState::Queued);
  EXPECT_EQ(rows.rows[2].steps, 0);
  EXPECT_EQ(rows.notes, (Names{"1 run is archived and counts as done: seed=1 (/kept/1.tar)",
                               "1 run was archived before it was done and begins anew: seed=3 (/kept/3.tar)"}));
}

}  // namespace
}  // namespace zerostep
