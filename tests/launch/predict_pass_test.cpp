#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <filesystem>
#include <functional>
#include <stdexcept>
#include <utility>

#include "base/unfinished_file.h"
#include "launch/model_files.h"
#include "launch/prediction_pass.h"
#include "tests/launch/support/predict_case.h"
#include "tests/support/large_table.h"
#include "tests/support/memory_growth.h"

// What `predict` says and holds on its way, and what it leaves.
namespace zerostep::testing {
namespace {

// In this process; gives the number of rows.
int64_t predict_here(const Workplace& place, const std::vector<std::string>& inputs, int64_t batch_size, const std::string& field,
                     std::function<double()> clock = steady_seconds) {
  const SavedModel saved = open_model(place.path("model"));
  const auto tokenizer = tokenizer_of_model(place.path("model"), *saved.model);
  const PlainModel model(*saved.model, saved.read, Device::cpu());
  const TextClassifier classifier(model, *tokenizer, batch_size);
  PredictionFile out(place.path("here.tsv"), {"no", "yes"});
  PredictionPass pass(classifier, batch_size, out, std::move(clock));
  pass.run(inputs, {.key = "--input", .text_field = field});
  return pass.rows();
}

TEST_F(Predict, SaysHowFarItIsEveryTenSeconds) {
  constexpr int kRows = 24;
  std::string half;
  for (int i = 0; i < kRows / 2; ++i) half += "so good\n";
  place_->write("whole.tsv", half + half);
  place_->write("half1.tsv", half);
  place_->write("half2.tsv", half);
  place_->write("brief.tsv", "good\nbad\n");
  const auto said = [&](const std::vector<std::string>& inputs) {
    std::vector<std::string> paths;
    for (const std::string& input : inputs) paths.push_back(place_->path(input));
    double seconds = 0;
    ::testing::internal::CaptureStderr();
    predict_here(*place_, paths, 1, "0", [&] { return std::exchange(seconds, seconds + 4); });
    return split(::testing::internal::GetCapturedStderr(), '\n');
  };
  const std::vector<std::string> expected = {"3 rows (12 %) | 0.25 rows/s | 1:24 left",  "6 rows (25 %) | 0.25 rows/s | 1:12 left",
                                             "9 rows (38 %) | 0.25 rows/s | 1:00 left",  "12 rows (50 %) | 0.25 rows/s | 48 s left",
                                             "15 rows (62 %) | 0.25 rows/s | 36 s left", "18 rows (75 %) | 0.25 rows/s | 24 s left",
                                             "21 rows (88 %) | 0.25 rows/s | 12 s left", "24 rows (100 %) | 0.25 rows/s | 0.0 s left"};
  EXPECT_EQ(said({"whole.tsv"}), expected);
  EXPECT_EQ(said({"half1.tsv", "half2.tsv"}), expected);
  EXPECT_EQ(said({"brief.tsv"}), std::vector<std::string>());
}

// Of a table that has 96 MiB of text more it takes no 48 MiB of memory more: it holds a window of rows, and of the file a few megabytes.
TEST_F(Predict, HoldsAWindowOfATableWhateverItsSize) {
  constexpr int64_t kRowBytes = 1 << 16;
  const auto growth = [&](int64_t groups) {
    const std::string table = place_->path("large.parquet");
    EXPECT_GE(memory_growth_of([&] { write_large_table(table, groups, kRowBytes); }), 0);
    return memory_growth_of([&] {
      if (predict_here(*place_, {table}, 32, "text") != rows_of_large_table(groups, kRowBytes))
        throw std::runtime_error("rows are missing");
    });
  };
  write_large_table(place_->path("empty.parquet"), 0, kRowBytes);  // what Arrow's library takes itself is here before
  const int64_t few = growth(2), many = growth(5);
  EXPECT_GE(few, 0);
  EXPECT_GE(many, 0);
  EXPECT_LE(many - few, int64_t{48} << 20);
}

TEST_F(Predict, OneProcessAtATimeWritesATable) {
  place_->write("two.tsv", "text\nso bad\nso good\n");
  {
    const UnfinishedFile other(place_->path("shared.tsv"), place_->path("shared.tsv.partial"));
    const Outcome refused = predict("two.tsv", "shared.tsv");
    EXPECT_EQ(refused.status, 2);
    EXPECT_SAYS(refused.err, place_->path("shared.tsv") + ": another process writes it");
    EXPECT_TRUE(place_->exists("shared.tsv.partial"));
  }
  ASSERT_EQ(predict("two.tsv", "shared.tsv").status, 0);
  EXPECT_EQ(table("shared.tsv").size(), 2u);
}

TEST_F(Predict, AFieldThatNoRowHasIsTold) {
  place_->write("rows.jsonl", "{\"text\": \"so bad\"}\n{\"text\": \"so good\", \"answer\": null}\n");
  for (const auto& [text, told] : {std::pair{"{text}[[ {answer}]]", false}, {"{text}[[ {answre}]]", true}}) {
    const Outcome done = predict("rows.jsonl", "told.tsv", {"--text", text});
    ASSERT_EQ(done.status, 0) << done.err;
    EXPECT_EQ(done.err.find("warning: --input: no row has a field 'answre', which --text names") != std::string::npos, told) << done.err;
    EXPECT_EQ(count(done.err, "warning"), told ? 1U : 0U) << done.err;
  }
}

TEST_F(Predict, ALinkStaysWhereItIs) {
  place_->write("two.tsv", "text\nso bad\nso good\n");
  ASSERT_EQ(predict("two.tsv", "led_to.tsv").status, 0);
  const std::string before = place_->read("led_to.tsv");
  for (const char* target : {"led_to.tsv", "nothing.tsv"}) {
    std::filesystem::create_symlink(place_->path(target), place_->path("link.tsv"));
    const Outcome refused = predict("two.tsv", "link.tsv");
    EXPECT_EQ(refused.status, 2);
    EXPECT_SAYS(refused.err, "--output " + place_->path("link.tsv") + ": that is a link");
    EXPECT_TRUE(std::filesystem::is_symlink(place_->path("link.tsv")));
    std::filesystem::remove(place_->path("link.tsv"));
  }
  EXPECT_EQ(place_->read("led_to.tsv"), before);
}

TEST_F(Predict, LeavesNothingWhereASignalEndsIt) {
  place_->write("many.tsv", "text\n" + rows(400000, false));
  const pid_t pid = place_->start({program(), "predict", "--model", place_->path("model"), "--input", place_->path("many.tsv"), "--output",
                                   place_->path("ended.tsv"), "--batch-size", "1"});
  for (int waited = 0; waited < 3000 && !place_->exists("ended.tsv.partial"); ++waited) ::usleep(10000);
  EXPECT_TRUE(place_->exists("ended.tsv.partial"));
  ::kill(pid, SIGTERM);
  const Outcome ended = place_->finish(pid);
  EXPECT_EQ(ended.status, 143) << ended.err;
  EXPECT_FALSE(place_->exists("ended.tsv.partial") || place_->exists("ended.tsv"));
}

}  // namespace
}  // namespace zerostep::testing
