#include <gtest/gtest.h>

#include <cmath>
#include <csignal>
#include <fstream>

#include "base/error.h"
#include "base/signal_name.h"
#include "experiments/records/read_file.h"
#include "experiments/records/run_record.h"
#include "experiments/sweep/journal.h"
#include "experiments/sweep/run_end.h"
#include "tests/support/expect_says.h"
#include "tests/support/message_of.h"
#include "tests/support/scratch_folder.h"

namespace zerostep {
namespace {

// What becomes of runs, and what a journal tells of it.

using testing::message_of;

TEST(SweepJournal, TellsWhatRunsHadComeTo) {
  const ScratchFolder scratch;
  const std::string file = scratch.path("journal.jsonl");
  SweepRow done, failed, left;
  std::string started;
  done.run = "a";
  failed.run = "b,\"c\"";
  left.run = "d";
  for (SweepRow* row : {&done, &failed, &left}) row->device = "cpu";
  {
    Journal journal(file);
    journal.begin("sweep", 3, false);
    done.values = {{"optimizer.params.lr", 0.5}, {"step.mode", "fo"}};
    for (const SweepRow* row : {&done, &failed, &left}) journal.start(*row, {"zerostep", "train"});
    started = journal.running("a");
    journal.running("a");  // again
    done.state = SweepState::Done;
    done.exit = 0;
    done.seconds = 1.5;
    done.steps = 40;
    done.final_loss = 1.0 / 3;
    done.best_eval_loss = std::nan("");
    journal.end(done);
    failed.state = SweepState::Failed;
    failed.exit = 1;
    failed.has_diverged = true;
    failed.error = "the loss is nan\xff";
    journal.end(failed);
  }
  std::ofstream(file, std::ios::app) << R"({"time":"2026-01-01T00:00:00.000Z","event":"end","run":"d","sta)";  // cut
  const auto rows = Journal::read(file);
  ASSERT_EQ(rows.size(), 3u);
  EXPECT_EQ(rows.at("a").row.state, SweepState::Done);
  EXPECT_EQ(rows.at("a").row.exit, 0);
  EXPECT_EQ(rows.at("a").row.seconds, 1.5);
  EXPECT_EQ(rows.at("a").row.steps, 40);
  EXPECT_EQ(rows.at("a").row.final_loss, 1.0 / 3);
  EXPECT_EQ(rows.at("a").row.best_eval_loss, std::nullopt);
  EXPECT_FALSE(rows.at("a").row.has_diverged);
  EXPECT_TRUE(rows.at("b,\"c\"").row.has_diverged);
  EXPECT_EQ(rows.at("a").command, (std::vector<std::string>{"zerostep", "train"}));
  EXPECT_EQ(rows.at("b,\"c\"").row.state, SweepState::Failed);
  EXPECT_SAYS(rows.at("b,\"c\"").row.error, "the loss is nan");
  EXPECT_EQ(rows.at("d").row.state, SweepState::Killed);
  EXPECT_EQ(rows.at("d").row.exit, std::nullopt);
  EXPECT_EQ(rows.at("a").row.values, done.values);
  // A start is no beginning yet: a batch system may let it wait.
  EXPECT_EQ(rows.at("a").row.started, started);
  EXPECT_EQ(rows.at("d").row.started, "");
  std::ofstream(scratch.path("odd.jsonl")) << R"({"event":"end","run":"d","state":"done","seconds":"long"})"
                                           << "\n";
  EXPECT_SAYS(message_of<InputError>([&] { Journal::read(scratch.path("odd.jsonl")); }),
              "odd.jsonl: line 1 is no event of a sweep's journal: `seconds` is \"long\"; a number is expected");
  // Only what a killed sweep has left may be cut: the last line.
  for (const char* wrong : {"{\"event\":\"end\",\"run\":\"d\",\"sta\n{\"event\":\"resume\"}\n", "{\"event\":\"resume\"}\n7\n"}) {
    std::ofstream(scratch.path("odd.jsonl")) << wrong;
    const std::string line = wrong[std::string(wrong).size() - 2] == '7' ? "line 2 is no event" : "line 1 is no event";
    EXPECT_SAYS(message_of<InputError>([&] { Journal::read(scratch.path("odd.jsonl")); }), line);
    EXPECT_SAYS(message_of<InputError>([&] { Journal::submitted_jobs(scratch.path("odd.jsonl")); }), line);
  }
  const std::string before = read_file(file);
  Journal(file).begin("sweep", 3, true);
  const std::string after = read_file(file);
  EXPECT_TRUE(after.starts_with(before.substr(0, before.rfind('\n') + 1))) << after;
  EXPECT_EQ(Journal::read(file).size(), 3u);
}

TEST(SweepJournal, OlderOnesAreReadAndOddValuesNamed) {
  const ScratchFolder scratch;
  const std::string file = scratch.path("journal.jsonl");
  std::ofstream(file) << R"({"event":"submit","slurm_job":17})"
                      << "\n"
                      << R"({"event":"submit","slurm_job":"18"})"
                      << "\n"
                      << R"({"event":"end","run":"a","state":"done","exit":0,"seconds":2,"steps":40,"loss":0.25})"
                      << "\n"
                      << R"({"event":"end","run":"b","state":"done","exit":null,"final_loss":0.5,"loss":0.75})"
                      << "\n";
  EXPECT_EQ(Journal::submitted_jobs(file), (std::vector<std::string>{"17", "18"}));
  EXPECT_EQ(Journal::read(file).at("a").row.final_loss, 0.25);
  EXPECT_EQ(Journal::read(file).at("a").row.seconds, 2);
  EXPECT_FALSE(Journal::read(file).at("a").row.has_diverged);  // which they do not say
  EXPECT_EQ(Journal::read(file).at("b").row.final_loss, 0.5);
  EXPECT_EQ(Journal::read(file).at("b").row.exit, std::nullopt);
  const auto said = [&](const std::string& line) {
    std::ofstream(file) << R"({"event":"begin"})"
                        << "\n"
                        << line << "\n";
    return message_of<InputError>([&] {
      Journal::submitted_jobs(file);
      Journal::read(file);
    });
  };
  for (const auto& [line, expected] : std::vector<std::pair<std::string, std::string>>{
           {R"({"event":7,"run":"a"})", "`event` is 7; a text is expected"},
           {R"({"event":"end","run":["a"]})", R"(`run` is ["a"]; a text is expected)"},
           {R"({"event":"end","run":"a","state":"gone"})", R"(`state` is "gone"; the name of a state is expected)"},
           {R"({"event":"end","run":"a"})", "`state` is missing; the name of a state is expected"},
           {R"({"event":"end","run":"a","state":"done","steps":1.5})", "`steps` is 1.5; an integer is expected"},
           {R"({"event":"end","run":"a","state":"done","exit":"0"})", R"(`exit` is "0"; an integer is expected)"},
           {R"({"event":"end","run":"a","state":"done","loss":"1"})", R"(`loss` is "1"; a number is expected)"},
           {R"({"event":"end","run":"a","state":"done","diverged":1})", "`diverged` is 1; true or false is expected"},
           {R"({"event":"start","run":"a","values":[1]})", "`values` is [1]; an object of values by key is expected"},
           {R"({"event":"start","run":"a","command":["zerostep",1]})", "a list of texts is expected"},
           {R"({"event":"archive","run":"a","done":1})", "`done` is 1; true or false is expected"},
           {R"({"event":"submit","slurm_job":[1]})", "`slurm_job` is [1]; a number is expected"}})
    EXPECT_SAYS(said(line), "journal.jsonl: line 2 is no event of a sweep's journal: " + (expected[0] == '`' ? expected : "`command` is"));
}

// Also where the sweep was killed each time.
TEST(SweepJournal, TellsSinceWhenARunGoesOnAndTheSecondsBefore) {
  const ScratchFolder scratch;
  const std::string file = scratch.path("journal.jsonl");
  Journal journal(file);
  SweepRow row;
  row.run = "a";
  journal.start(row, {"zerostep", "train"});
  const std::string since = journal.running("a");
  EXPECT_EQ(Journal::read(file).at("a").runs_since, since);
  EXPECT_EQ(Journal::read(file).at("a").row.seconds, 0);
  row.seconds = 12.5;  // as a sweep that goes on works them out
  journal.start(row, {"zerostep", "train"});
  EXPECT_EQ(Journal::read(file).at("a").runs_since, "");
  EXPECT_EQ(Journal::read(file).at("a").row.seconds, 12.5);
  EXPECT_EQ(Journal::read(file).at("a").row.started, since);
  const std::string again = journal.running("a");
  EXPECT_EQ(Journal::read(file).at("a").runs_since, again);
  EXPECT_EQ(Journal::read(file).at("a").row.started, since);
  row.seconds = 20;
  journal.end(row);
  EXPECT_EQ(Journal::read(file).at("a").runs_since, "");
  EXPECT_EQ(Journal::read(file).at("a").row.seconds, 20);
}

TEST(SweepJournal, TellsOfArchivesUntilTheRunIsStartedAgain) {
  const ScratchFolder scratch;
  const std::string file = scratch.path("journal.jsonl");
  SweepRow row;
  row.run = "a";
  Journal journal(file);
  journal.start(row, {});
  journal.archived("a", "/kept/a.tar", false);
  EXPECT_EQ(Journal::read(file).at("a").archive, "/kept/a.tar");
  EXPECT_EQ(Journal::read(file).at("a").row.state, SweepState::Killed);
  // It had ended after its sweep was killed.
  journal.archived("a", "/kept/a.tar", true);
  EXPECT_EQ(Journal::read(file).at("a").row.state, SweepState::Done);
  journal.start(row, {});
  EXPECT_EQ(Journal::read(file).at("a").archive, "");
}

TEST(RunEnds, AreJudgedByStatusFolderAndWhoAsked) {
  const ScratchFolder scratch;
  const std::string output = scratch.path("output.txt");
  std::ofstream(output) << "zerostep: an earlier error\n"
                        << "zerostep: the loss is nan\n"
                        << "mpirun has ended\n";
  const auto judged = [&](int status, std::optional<RunState> record, bool has_its_steps = false, bool was_asked = false) {
    SweepRow row;
    row.error = "of before";
    judge_end({.status = status,
               .recorded_state = record,
               .has_its_steps = has_its_steps,
               .was_asked_to_stop = was_asked,
               .output = output,
               .output_begin = std::string("zerostep: an earlier error\n").size()},
              row);
    EXPECT_EQ(row.exit, status);
    return std::pair(row.state, row.error);
  };
  using End = std::pair<SweepState, std::string>;
  const std::string last_words = "the loss is nan";
  EXPECT_EQ(judged(0, RunState::Done), End(SweepState::Done, ""));
  EXPECT_EQ(judged(0, RunState::Interrupted, true), End(SweepState::Done, ""));
  EXPECT_EQ(judged(0, RunState::Interrupted, false, true), End(SweepState::Interrupted, ""));
  EXPECT_EQ(judged(0, std::nullopt), End(SweepState::Interrupted, last_words));
  EXPECT_EQ(judged(128 + SIGTERM, RunState::Interrupted), End(SweepState::Interrupted, "SIGTERM from outside stopped it after a step"));
  EXPECT_EQ(judged(128 + SIGTERM, RunState::Killed), End(SweepState::Killed, "killed by SIGTERM"));
  EXPECT_EQ(judged(128 + SIGKILL, RunState::Killed),
            End(SweepState::Killed, "killed by SIGKILL from outside, as the system does where memory runs out"));
  EXPECT_EQ(judged(128 + SIGHUP, RunState::Killed), End(SweepState::Killed, "killed by SIGHUP"));
  for (const int signal : {SIGINT, SIGTERM, SIGUSR1})
    EXPECT_EQ(judged(128 + signal, std::nullopt),
              End(SweepState::Interrupted, name_of_signal(signal) + " from outside stopped it before its first step"));
  EXPECT_EQ(judged(128 + SIGKILL, std::nullopt).first, SweepState::Killed);
  EXPECT_EQ(judged(128 + SIGTERM, RunState::Unknown).first, SweepState::Killed);  // its log cannot be read, and it had begun
  // What a program does itself is its failure, whatever else was asked of it.
  for (const int signal : {SIGSEGV, SIGABRT, SIGFPE, SIGBUS, SIGILL, SIGSYS, SIGTRAP}) {
    const End failed(SweepState::Failed, "ended by " + name_of_signal(signal) + ": the loss is nan");
    EXPECT_EQ(judged(128 + signal, RunState::Killed), failed);
    EXPECT_EQ(judged(128 + signal, std::nullopt), failed);
    EXPECT_EQ(judged(128 + signal, RunState::Killed, false, true), failed);
    EXPECT_EQ(judged(128 + signal, RunState::Interrupted), failed);  // as the process before has left it
  }
  // Its folder tells of the process before, which had saved.
  EXPECT_EQ(judged(128 + SIGKILL, RunState::Interrupted).first, SweepState::Killed);
  EXPECT_EQ(judged(1, RunState::Failed), End(SweepState::Failed, last_words));
  EXPECT_EQ(judged(1, RunState::Failed, false, true), End(SweepState::Failed, last_words));
  EXPECT_EQ(judged(1, RunState::Interrupted, false, true), End(SweepState::Interrupted, ""));  // mpirun's status of ranks that have saved
  EXPECT_EQ(judged(128 + SIGUSR1, std::nullopt, false, true), End(SweepState::Interrupted, ""));  // before its first step
  // Its log is begun, and it does not save yet.
  EXPECT_EQ(judged(128 + SIGUSR1, RunState::Killed, false, true), End(SweepState::Interrupted, ""));
  const std::string second = "ended by the sweep's second signal before it had saved";
  EXPECT_EQ(judged(1, RunState::Killed, false, true), End(SweepState::Killed, second));  // mpirun's status of ranks that it has ended
  EXPECT_EQ(judged(128 + SIGKILL, RunState::Killed, false, true), End(SweepState::Killed, second));
}

TEST(RunEnds, HaveTheLastLineWithAWordWhereThereIsNoError) {
  const ScratchFolder scratch;
  SweepRow row;
  const auto words = [&](const std::string& text) {
    std::ofstream(scratch.path("output.txt")) << text;
    judge_end({.status = 128 + SIGABRT, .recorded_state = RunState::Killed, .output = scratch.path("output.txt")}, row);
    return row.error;
  };
  EXPECT_EQ(words("step 3\n  what():  out of range\n-----\n \n"), "ended by SIGABRT: what():  out of range");
  EXPECT_EQ(words("zerostep: the loss is nan\nmpirun noticed it\n"), "ended by SIGABRT: the loss is nan");
  EXPECT_EQ(words("-----\n"), "ended by SIGABRT");
}

TEST(RunEnds, ThatASignalHasMadeAreInTheLog) {
  const ScratchFolder scratch;
  std::ofstream(scratch.path("log.txt")) << "ranks          1 on cpu\n";
  std::ofstream(scratch.path("metrics.csv")) << "step,loss\n";
  SweepRow row;
  row.state = SweepState::Failed;
  row.exit = 128 + SIGKILL;
  note_signal(row, scratch.folder());
  EXPECT_EQ(read_run(scratch.folder()).why, "");
  row.state = SweepState::Killed;
  note_signal(row, scratch.folder());
  EXPECT_EQ(read_file(scratch.folder() / "log.txt"), "ranks          1 on cpu\nkilled by SIGKILL\n");
  EXPECT_EQ(read_run(scratch.folder()).state, RunState::Killed);
  EXPECT_EQ(read_run(scratch.folder()).why, "SIGKILL");
  // The next process was asked to stop before it wrote a line.
  row.state = SweepState::Interrupted;
  note_interrupt(row, scratch.folder());
  EXPECT_EQ(read_run(scratch.folder()).state, RunState::Interrupted);
  EXPECT_EQ(read_run(scratch.folder()).why, "interrupted with its sweep");
  // Of a fault of its own the folder has the state and the words of the row.
  row.state = SweepState::Failed;
  row.exit = 128 + SIGSEGV;
  row.error = "ended by SIGSEGV: step 3";
  note_signal(row, scratch.folder());
  EXPECT_EQ(read_run(scratch.folder()).state, RunState::Failed);
  EXPECT_EQ(read_run(scratch.folder()).why, "ended by SIGSEGV: step 3");
}

}  // namespace
}  // namespace zerostep
