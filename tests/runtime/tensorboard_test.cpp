#include "runtime/report/tensorboard.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <algorithm>
#include <cmath>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <limits>
#include <thread>

#include "base/error.h"
#include "runtime/report/metrics.h"
#include "runtime/report/record_file.h"
#include "tests/runtime/support/config_file.h"
#include "tests/support/event_reader.h"
#include "tests/support/expect_says.h"
#include "tests/support/message_of.h"
#include "tests/support/scratch_folder.h"

namespace zerostep {
namespace {

namespace fs = std::filesystem;
using testing::Events;
using testing::events_of;
using testing::WireMessage;
using Series = Events::Series;

class TensorBoardFiles : public ::testing::Test {
 protected:
  TensorBoard::Options options() {
    TensorBoard::Options out;
    out.folder = folder_;
    out.warn = [this](const std::string& text) { warnings_.push_back(text); };
    out.longest_wait = std::chrono::hours(1);
    return out;
  }
  TensorBoard::Options kept(int64_t samples, int64_t steps) {
    TensorBoard::Options out = options();
    out.kept = {samples, steps};
    return out;
  }
  // Steps of 4 samples, whose loss is 100 plus the step.
  static void write_steps(TensorBoard& board, int64_t first, int64_t end) {
    for (int64_t step = first; step < end; ++step) {
      const double loss = 100.0 + static_cast<double>(step);
      board.write_on_samples(4 * (step + 1), std::vector<TensorBoard::Scalar>{{"Train/Samples/train_loss", loss}});
      board.write_on_steps(step, std::vector<TensorBoard::Scalar>{{"loss", loss}});
    }
  }
  static Series losses(int64_t steps, int64_t factor, int64_t offset) {
    Series out;
    for (int64_t step = 0; step < steps; ++step) out.emplace_back(factor * step + offset, 100.0f + static_cast<float>(step));
    return out;
  }
  void expect_steps(int64_t steps) const {
    const Events events = events_of(folder_);
    EXPECT_EQ(events.series.at("step/loss"), losses(steps, 1, 0));
    EXPECT_EQ(events.series.at("Train/Samples/train_loss"), losses(steps, 4, 4));
  }
  ScratchFolder scratch_;
  std::string folder_ = scratch_.path("board/job");
  std::vector<std::string> warnings_;
};

// TensorBoard's own RecordWriter has written these bytes of "zerostep" and of a record without bytes.
TEST(RecordFile, FramesAreThoseOfTensorFlow) {
  const unsigned char expected[] = {0x08, 0,   0,   0,   0,    0,    0,    0,    0xff, 0x86, 0x24, 0x0f, 'z', 'e',
                                    'r',  'o', 's', 't', 'e',  'p',  0x55, 0xf9, 0x7c, 0x54, 0,    0,    0,   0,
                                    0,    0,   0,   0,   0x29, 0x03, 0x98, 0x07, 0xd8, 0xea, 0x82, 0xa2};
  std::string bytes;
  append_record(bytes, "zerostep");
  append_record(bytes, "");
  EXPECT_EQ(bytes, std::string(reinterpret_cast<const char*>(expected), sizeof expected));
}

TEST(RecordFile, IsCutBeforeTheFirstRecordThatIsNotKeptOrNotWhole) {
  const ScratchFolder scratch;
  const std::string path = scratch.path("records");
  std::string whole;
  for (const char* record : {"a", "bb", "ccc"}) append_record(whole, record);
  const auto cut = [&](const std::string& content, const std::string& last) {
    std::ofstream(path, std::ios::binary) << content;
    keep_records(path, [&](std::string_view record) { return record != last; });
    return testing::records_of(path);
  };
  EXPECT_EQ(cut(whole, ""), (std::vector<std::string>{"a", "bb", "ccc"}));
  EXPECT_EQ(cut(whole, "ccc"), (std::vector<std::string>{"a", "bb"}));
  EXPECT_EQ(cut(whole, "bb"), std::vector<std::string>{"a"});
  EXPECT_EQ(cut(whole, "a"), std::vector<std::string>());
  EXPECT_EQ(cut("", "a"), std::vector<std::string>());
  // Cut anywhere within the last record, or with a damaged byte there: its length, the sum of it, its content, the sum of that.
  for (size_t lost = 1; lost <= 18; ++lost) EXPECT_EQ(cut(whole.substr(0, whole.size() - lost), "").size(), 2u) << lost << " bytes short";
  for (size_t damaged = 1; damaged <= 19; ++damaged) {
    std::string text = whole;
    text[text.size() - damaged] ^= 0x10;
    EXPECT_EQ(cut(text, "").size(), 2u) << damaged << " bytes before the end";
  }
  EXPECT_THROW(keep_records(scratch.path("none"), [](std::string_view) { return true; }), InputError);
}

TEST_F(TensorBoardFiles, HoldWhatWasWritten) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  {
    TensorBoard::Options with = options();
    with.hyper_parameters = {{"optimizer.params.lr", HyperParameter::Type::Number, true, {}, 1e-3},
                             {"step.mode", HyperParameter::Type::Text, true, {"fo", "zo"}, std::string("fo")},
                             {"fp16.enabled", HyperParameter::Type::Boolean, false, {}, false},
                             {"step.epsilon", HyperParameter::Type::Number, false, {}, {}}};
    TensorBoard board(std::move(with));
    board.write_on_samples(8, std::vector<TensorBoard::Scalar>{{"Train/Samples/train_loss", 1.0 / 3}, {"Train/Samples/lr", 1e-3}});
    board.write_on_steps(1, std::vector<TensorBoard::Scalar>{{"loss", 1.0 / 3}, {"device_peak_bytes", 123456789012.0}});
    board.write_on_steps(int64_t{1} << 40, std::vector<TensorBoard::Scalar>{{"loss", nan}});
    board.write_on_steps(2, {});
    board.end(TensorBoard::End::Done);
  }
  const Events events = events_of(folder_);
  EXPECT_EQ(warnings_, std::vector<std::string>());
  ASSERT_EQ(events.files.size(), 1u);
  EXPECT_EQ(events.versions, std::vector<std::string>{"brain.Event:2"});
  EXPECT_EQ(events.series.size(), 4u);
  EXPECT_EQ(events.series.at("Train/Samples/train_loss"), (Series{{8, 1.0f / 3}}));
  EXPECT_EQ(events.series.at("Train/Samples/lr"), (Series{{8, 1e-3f}}));
  EXPECT_EQ(events.series.at("step/device_peak_bytes"), (Series{{1, 123456789012.0f}}));
  ASSERT_EQ(events.series.at("step/loss").size(), 2u);
  EXPECT_EQ(events.series.at("step/loss")[1].first, int64_t{1} << 40);
  EXPECT_TRUE(std::isnan(events.series.at("step/loss")[1].second));
  EXPECT_EQ(events.hyper_parameters(),
            (std::map<std::string, std::string>{{"optimizer.params.lr", "0.001"}, {"step.mode", "fo"}, {"fp16.enabled", "false"}}));

  // The experiment names every column, in this run without a value or not, its type and what it may be.
  const WireMessage content(events.plug_in.at("_hparams_/experiment").at(0)), experiment(content.text(2));
  std::vector<std::string> columns, metrics;
  for (const std::string& bytes : experiment.bytes.at(4)) {
    const WireMessage column(bytes), choices(column.text(5));
    std::string line = column.text(1) + " " + std::to_string(column.number(4)) + (column.number(7) != 0 ? " leads" : "");
    if (choices.bytes.contains(1))
      for (const std::string& bytes_of_choice : choices.bytes.at(1)) {
        const WireMessage choice(bytes_of_choice);
        line += choice.bytes.contains(3) ? " " + choice.text(3) : choice.number(4) != 0 ? " true" : " false";
      }
    columns.push_back(line);
  }
  EXPECT_EQ(columns, (std::vector<std::string>{"optimizer.params.lr 3 leads", "step.mode 1 leads fo zo", "fp16.enabled 2 false true",
                                               "step.epsilon 3"}));
  for (const std::string& bytes : experiment.bytes.at(5)) metrics.push_back(WireMessage(WireMessage(bytes).text(1)).text(2));
  EXPECT_EQ(metrics, (std::vector<std::string>{"step/loss", "step/eval_loss", "step/eval_accuracy"}));
  const WireMessage last(events.plug_in.at("_hparams_/session_end_info").at(0)), end(last.text(4));
  EXPECT_EQ(end.number(1), 1u) << "1 is success";
  EXPECT_GT(end.real(2), 1.7e9);
}

TEST_F(TensorBoardFiles, SayHowARunEnded) {
  const auto status = [&](std::optional<TensorBoard::End> how) -> std::string {
    fs::remove_all(folder_);
    {
      TensorBoard board(options());
      write_steps(board, 0, 2);
      if (how) board.end(*how);
    }
    expect_steps(2);
    const Events events = events_of(folder_);
    if (!events.plug_in.contains("_hparams_/session_end_info")) return "none";
    return std::to_string(WireMessage(WireMessage(events.plug_in.at("_hparams_/session_end_info").at(0)).text(4)).number(1));
  };
  EXPECT_EQ(status(TensorBoard::End::Done), "1");
  EXPECT_EQ(status(TensorBoard::End::Failed), "2");
  EXPECT_EQ(status(TensorBoard::End::Stopped), "none");
  EXPECT_EQ(status({}), "2");
}

TEST_F(TensorBoardFiles, GoOnWithoutStepsThatComeTwice) {
  fs::create_directories(folder_);
  {
    TensorBoard board(options());
    write_steps(board, 0, 10);
    board.end(TensorBoard::End::Done);
  }
  // From step 6, then, before what that one had, from step 3, and from the end.
  for (const int64_t first : {6, 3, 10}) {
    {
      TensorBoard board(kept(4 * first, first));
      write_steps(board, first, 10);
      board.end(TensorBoard::End::Done);
    }
    expect_steps(10);
    const Events events = events_of(folder_);
    EXPECT_EQ(events.plug_in.at("_hparams_/session_end_info").size(), 1u);
  }
  EXPECT_EQ(events_of(folder_).files.size(), 3u) << "the file that had nothing before step 3 is gone";
  // After a kill, with half a record at the end.
  const std::string last = events_of(folder_).files.at(1);
  fs::resize_file(last, fs::file_size(last) - 5);
  {
    TensorBoard board(kept(4 * 7, 7));
    write_steps(board, 7, 9);
  }
  expect_steps(9);
  EXPECT_EQ(warnings_, std::vector<std::string>());
}

TEST_F(TensorBoardFiles, OfAFormerRunGoAndThoseOfOthersStay) {
  fs::create_directories(folder_);
  for (const char* name : {"/events.out.tfevents.1700000000.host", "/notes.zerostep"}) std::ofstream(folder_ + name) << "mine";
  fs::create_directories(folder_ + "/events.out.tfevents.1700000000.folder.zerostep");
  for (int run = 0; run < 2; ++run) {
    TensorBoard board(options());
    write_steps(board, 0, 3 - run);
  }
  fs::remove(folder_ + "/events.out.tfevents.1700000000.host");
  EXPECT_TRUE(fs::exists(folder_ + "/notes.zerostep"));
  EXPECT_TRUE(fs::remove(folder_ + "/events.out.tfevents.1700000000.folder.zerostep"));
  expect_steps(2);
}

// A clock that was set back must not make TensorBoard read what came later first.
TEST_F(TensorBoardFiles, StandInTheOrderInWhichTheyWereBegun) {
  {
    TensorBoard board(options());
    write_steps(board, 0, 2);
  }
  const std::string first = events_of(folder_).files.at(0);
  fs::rename(first, folder_ + "/events.out.tfevents.9000000000.host.1.zerostep");
  {
    TensorBoard board(kept(8, 2));
    write_steps(board, 2, 4);
  }
  expect_steps(4);
}

TEST_F(TensorBoardFiles, AreWrittenWhenTheWaitIsOver) {
  TensorBoard waits(options());
  write_steps(waits, 0, 3);
  EXPECT_TRUE(events_of(folder_).series.empty());
  EXPECT_EQ(events_of(folder_).plug_in.size(), 2u) << "hyper-parameters are there at once";
  waits.flush();
  expect_steps(3);
  EXPECT_EQ(TensorBoard::Options().longest_wait, std::chrono::seconds(5));
  TensorBoard::Options short_wait = options();
  short_wait.folder = folder_ = scratch_.path("other");
  short_wait.longest_wait = std::chrono::milliseconds(50);
  TensorBoard board(std::move(short_wait));
  const auto start = std::chrono::steady_clock::now();
  int64_t steps = 0;
  while (std::chrono::steady_clock::now() - start < std::chrono::milliseconds(60)) {
    write_steps(board, steps, steps + 1);
    ++steps;
  }
  const Events events = events_of(folder_);
  ASSERT_TRUE(events.series.contains("step/loss"));
  EXPECT_LE(static_cast<int64_t>(events.series.at("step/loss").size()), steps);
}

// A step that ends before the wait is over, with another as long to come, is not kept for that one; both of its kinds of series are there.
TEST_F(TensorBoardFiles, LongStepsAreWrittenAsTheyEnd) {
  TensorBoard::Options long_steps = options();
  long_steps.longest_wait = std::chrono::milliseconds(100);
  TensorBoard board(std::move(long_steps));
  for (int64_t step = 0; step < 3; ++step) {
    std::this_thread::sleep_for(std::chrono::milliseconds(60));
    write_steps(board, step, step + 1);
    expect_steps(step + 1);
    EXPECT_EQ(events_of(folder_).series.at("Train/Samples/train_loss"), losses(step + 1, 4, 4));
  }
}

TEST_F(TensorBoardFiles, ThatCannotBeWrittenAreWarnedOfOnceAndTheRunGoesOn) {
  std::ofstream(scratch_.path("file")) << "x";
  folder_ = scratch_.path("file/below");
  {
    TensorBoard board(options());
    write_steps(board, 0, 3);
    board.flush();
    board.end(TensorBoard::End::Done);
  }
  ASSERT_EQ(warnings_.size(), 1u);
  EXPECT_SAYS(warnings_[0], folder_);
  EXPECT_SAYS(warnings_[0], "The run goes on");

  // A file that takes no more: what it holds ends with a whole record.
  folder_ = scratch_.path("small");
  warnings_.clear();
  std::signal(SIGXFSZ, SIG_IGN);
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  {
    TensorBoard board(options());
    write_steps(board, 0, 3);
    board.flush();
    rlimit small = before;
    small.rlim_cur = fs::file_size(events_of(folder_).files.at(0)) + 50;
    ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
    write_steps(board, 3, 6);
    board.flush();
    write_steps(board, 6, 9);
    board.end(TensorBoard::End::Done);
    setrlimit(RLIMIT_FSIZE, &before);
  }
  ASSERT_EQ(warnings_.size(), 1u);
  EXPECT_SAYS(warnings_[0], folder_);
  EXPECT_SAYS(warnings_[0], "space");
  expect_steps(3);
}

TEST(MetricsNumbers, AreEveryNumberOfARowButItsStep) {
  MetricsRow row;
  row.timestamp = "2026-01-02T03:04:05.006Z";
  row.step = 7;
  row.mode = "fo";
  row.optimizer = "AdamW";
  row.loss_kind = "pairs";
  row.q = 3;
  row.loss = 0.25;
  row.skipped = true;
  row.device_peak_bytes = 5;
  std::string found;
  for (const auto& [name, value] : metrics_numbers(row)) found += fmt::format("{}={} ", name, value);
  EXPECT_EQ(found,
            "epoch=0 q=3 lr=0 batch_size=0 loss=0.25 tokens_per_second=0 step_seconds=0 loss_scale=1 skipped=1 device_peak_bytes=5 "
            "host_peak_bytes=0 file_peak_bytes=0 elements_gathered=0 elements_reduced=0 resident_bytes=0 ");
  // With every value: all columns but the five that are texts, and the step.
  row.bp_interval = 2;
  row.grad_norm = row.eval_loss = row.cosine = row.unchanged_share = row.eval_accuracy = row.bp_loss = row.clip_scale = row.gpu_busy = 1;
  row.gpu_bytes = 1;
  const std::string header = metrics_header();
  EXPECT_EQ(static_cast<int64_t>(metrics_numbers(row).size()), std::count(header.begin(), header.end(), ',') + 1 - 6);
}

// Name and value of those that have one.
std::map<std::string, std::string> values_of(const std::vector<std::string>& set, int ranks = 1) {
  std::map<std::string, std::string> out;
  for (const HyperParameter& parameter : hyper_parameters(load_tiny(set, ranks), ranks)) {
    EXPECT_FALSE(out.contains(parameter.name)) << parameter.name;
    if (const auto* text = std::get_if<std::string>(&parameter.value)) out[parameter.name] = *text;
    if (const auto* number = std::get_if<double>(&parameter.value)) out[parameter.name] = fmt::format("{:g}", *number);
    if (const auto* boolean = std::get_if<bool>(&parameter.value)) out[parameter.name] = *boolean ? "true" : "false";
  }
  return out;
}

TEST(HyperParameters, AreWhatRunsAreComparedByAndWhatTheFileGives) {
  const auto first_order = values_of({"fp16.enabled=true", "optimizer.params.bias_correction=false"}, 2);
  for (const auto& [name, value] : std::map<std::string, std::string>{{"optimizer.type", "AdamW"},
                                                                      {"optimizer.params.lr", "0.001"},
                                                                      {"optimizer.params.betas", "0.9, 0.99"},
                                                                      {"optimizer.params.bias_correction", "false"},
                                                                      {"train_batch_size", "8"},
                                                                      {"train_micro_batch_size_per_gpu", "2"},
                                                                      {"gradient_accumulation_steps", "2"},
                                                                      {"seed", "11"},
                                                                      {"step.mode", "fo"},
                                                                      {"step.scope", "full"},
                                                                      {"precision", "fp16"},
                                                                      {"fp16.enabled", "true"},
                                                                      {"ranks", "2"},
                                                                      {"model.n_embd", "64"},
                                                                      {"run.steps", "20"}}) {
    ASSERT_TRUE(first_order.contains(name)) << name;
    EXPECT_EQ(first_order.at(name), value) << name;
  }
  // No value that has no effect; no path, nothing of how the run is watched.
  for (const char* name : {"step.queries", "step.epsilon", "data.train", "run.name", "steps_per_print", "run.checkpoint_interval"})
    EXPECT_FALSE(first_order.contains(name)) << name;
  const auto zeroth_order = values_of({"step={\"mode\": \"zo\", \"queries\": 3}"});
  EXPECT_EQ(zeroth_order.at("step.queries"), "3");
  EXPECT_EQ(zeroth_order.at("step.epsilon"), "0.001");
  EXPECT_FALSE(zeroth_order.contains("step.rank"));
  // What a sweep tries is a column of each of its runs, and leads; what a file gives is one where it has no effect too.
  const std::set<std::string> swept{"step.instruct.cosine", "seed", "optimizer.params.bias_correction", "no.key"};
  for (const char* mode : {"fo", "instruct"}) {
    std::map<std::string, bool> leads, has_value;
    for (const HyperParameter& parameter :
         hyper_parameters(load_tiny({std::string("step.mode=") + mode, "step.instruct.noise_scale=0.5"}), 1, swept)) {
      EXPECT_FALSE(leads.contains(parameter.name)) << parameter.name;
      leads[parameter.name] = parameter.leads;
      has_value[parameter.name] = !std::holds_alternative<std::monostate>(parameter.value);
    }
    for (const char* name : {"step.instruct.cosine", "seed", "optimizer.params.bias_correction"}) EXPECT_TRUE(leads.at(name)) << name;
    EXPECT_FALSE(leads.at("step.instruct.noise_scale"));
    EXPECT_FALSE(leads.contains("no.key"));
    for (const char* name : {"step.instruct.cosine", "step.instruct.noise_scale"})
      EXPECT_EQ(has_value.at(name), std::string(mode) == "instruct") << name;
  }
  // The columns are there in both, so that a table of both has them.
  for (const char* mode : {"fo", "zo"}) {
    std::vector<std::string> columns;
    for (const HyperParameter& parameter : hyper_parameters(load_tiny({std::string("step.mode=") + mode}), 1))
      columns.push_back(parameter.name);
    for (const char* name : {"step.queries", "step.epsilon", "step.rank", "optimizer.params.lr"})
      EXPECT_EQ(std::count(columns.begin(), columns.end(), name), 1) << name;
  }
}

}  // namespace
}  // namespace zerostep
