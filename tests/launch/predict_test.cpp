#include <fmt/format.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <nlohmann/json.hpp>
#include <sstream>
#include <tuple>

#include "base/unfinished_file.h"
#include "launch/model_files.h"
#include "launch/prediction_pass.h"
#include "models/safetensors.h"
#include "tests/launch/support/run_binary.h"
#include "tests/support/large_table.h"
#include "tests/support/memory_growth.h"

// `predict` on a classifier that has learned which of two words a sentence holds; and exports in 16 bit.
namespace zerostep::testing {
namespace {

using nlohmann::json;

std::vector<std::string> split(const std::string& text, char at) {
  std::vector<std::string> out;
  std::istringstream in(text);
  for (std::string part; std::getline(in, part, at);) out.push_back(part);
  return out;
}

class Predict : public ::testing::Test {
 protected:
  // One classifier for all tests of a process.
  static void SetUpTestSuite() {
    place_ = std::make_unique<Workplace>();
    place_->write("train.tsv", "text\tlabel\n" + rows(96, true));
    place_->write("run.json", R"({
      "train_batch_size": 8, "train_micro_batch_size_per_gpu": 8, "seed": 3,
      "optimizer": {"type": "AdamW", "params": {"lr": 0.003}},
      "model": {"family": "bert", "num_hidden_layers": 1, "hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2,
                "max_position_embeddings": 64, "classifier_pooling": "mean"},
      "data": {"train": ")" + place_->path("train.tsv") +
                                  R"(", "eval": ")" + place_->path("train.tsv") + R"(", "sequence_length": 64},
      "run": {"name": "test", "output_dir": ")" +
                                  place_->path("runs") + R"(", "steps": 60, "checkpoint_interval": 60}})");
    ASSERT_EQ(place_->run({"train", place_->path("run.json")}).status, 0);
    ASSERT_EQ(place_->run({"export", place_->path("runs/test/checkpoints/step_00000060"), place_->path("model")}).status, 0);
  }
  static void TearDownTestSuite() { place_.reset(); }

  // Of very different lengths; every eighth says the other word.
  static std::string sentence(int i) {
    std::string text = (i % 3 == 0) != (i % 8 == 5) ? "good" : "bad";
    for (int w = 0; w < i * 5 % 9; ++w) text = (w % 2 == 0 ? "so " : "very ") + text;
    return text;
  }
  static std::string rows(int count, bool labelled) {
    std::string out;
    for (int i = 0; i < count; ++i) out += sentence(i) + (labelled ? i % 3 == 0 ? "\tyes" : "\tno" : "") + "\n";
    return out;
  }
  static Outcome predict(const std::string& input, const std::string& output, const std::vector<std::string>& more = {}) {
    std::vector<std::string> arguments{"predict",           "--model",  place_->path("model"), "--input",
                                       place_->path(input), "--output", place_->path(output)};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return place_->run(arguments);
  }
  // In this process; gives the number of rows.
  static int64_t predict_here(const std::vector<std::string>& inputs, int64_t batch_size, const std::string& field,
                              std::function<double()> clock = steady_seconds) {
    const SavedModel saved = open_model(place_->path("model"));
    const auto tokenizer = tokenizer_of_model(place_->path("model"), *saved.model);
    const PlainModel model(*saved.model, saved.read, Device::cpu());
    const TextClassifier classifier(model, *tokenizer, batch_size);
    PredictionFile out(place_->path("here.tsv"), {"no", "yes"});
    PredictionPass pass(classifier, batch_size, out, std::move(clock));
    pass.run(inputs, {.key = "--input", .text_field = field});
    return pass.rows();
  }
  struct Row {
    std::string label;
    double probability, margin, no, yes;
  };
  static std::vector<Row> table(const std::string& name) {
    std::vector<Row> out;
    std::vector<std::string> lines = split(place_->read(name), '\n');
    EXPECT_EQ(lines.at(0), "label\tprobability\tmargin\tprobability_no\tprobability_yes");
    for (size_t i = 1; i < lines.size(); ++i) {
      const auto cells = split(lines[i], '\t');
      out.push_back({cells.at(0), std::stod(cells.at(1)), std::stod(cells.at(2)), std::stod(cells.at(3)), std::stod(cells.at(4))});
    }
    return out;
  }

  static std::unique_ptr<Workplace> place_;
};
std::unique_ptr<Workplace> Predict::place_;

TEST_F(Predict, HasTheEvaluationsAccuracyARowARow) {
  const Outcome done = predict("train.tsv", "out.tsv");
  ASSERT_EQ(done.status, 0) << done.err;
  EXPECT_SAYS(done.out, "out.tsv: 96 rows of ");
  const std::vector<Row> found = table("out.tsv");
  ASSERT_EQ(found.size(), 96u);
  int right = 0;
  for (int i = 0; i < 96; ++i) {
    const Row& row = found[static_cast<size_t>(i)];
    right += row.label == (i % 3 == 0 ? "yes" : "no") ? 1 : 0;
    EXPECT_EQ(row.label, row.yes > row.no ? "yes" : "no");
    EXPECT_EQ(row.probability, std::max(row.yes, row.no));
    // Seven digits of each are written.
    EXPECT_NEAR(row.yes + row.no, 1, 1e-6);
    EXPECT_NEAR(row.margin, std::abs(row.yes - row.no), 1e-6);
  }
  const Outcome evaluated =
      place_->run({"eval", place_->path("run.json"), "--checkpoint", place_->path("runs/test/checkpoints/step_00000060"), "--json"});
  const json report = json::parse(evaluated.out);
  EXPECT_NEAR(report["accuracy"].get<double>(), right / 96.0, 1e-12);
  EXPECT_GT(right, 60);
  EXPECT_LT(right, 96);
  // The mean of the negative logarithms of the labels' probabilities is the evaluation's loss.
  double loss = 0;
  for (int i = 0; i < 96; ++i) loss -= std::log(i % 3 == 0 ? found[static_cast<size_t>(i)].yes : found[static_cast<size_t>(i)].no) / 96;
  EXPECT_NEAR(loss, report["loss"].get<double>(), 1e-5);
}

// 700 rows at a batch size of 1 are three windows that are each sorted by length.
TEST_F(Predict, KeepsTheOrderWhateverTheBatch) {
  place_->write("many.tsv", "text\n" + rows(700, false));
  ASSERT_EQ(predict("many.tsv", "one.tsv", {"--batch-size", "1"}).status, 0);
  ASSERT_EQ(predict("many.tsv", "all.tsv", {"--batch-size", "512"}).status, 0);
  const std::vector<Row> one = table("one.tsv"), all = table("all.tsv");
  ASSERT_EQ(one.size(), 700u);
  ASSERT_EQ(all.size(), 700u);
  for (size_t i = 0; i < 700; ++i) {
    EXPECT_NEAR(one[i].yes, all[i].yes, 1e-5) << i;  // sums of other lengths: fp32
    // Equal sentences have equal answers, wherever they stand.
    EXPECT_NEAR(one[i].yes, one[i % 72].yes, 1e-5) << i;
  }
}

TEST_F(Predict, ReadsAndWritesEveryKindOfTable) {
  ASSERT_EQ(predict("train.tsv", "expected.tsv").status, 0);
  const std::vector<Row> expected = table("expected.tsv");
  std::string objects, commas = "number,\"the text\"\n";
  for (int i = 0; i < 96; ++i) {
    objects += json{{"id", i}, {"review", sentence(i)}}.dump() + "\n";
    commas += fmt::format("{},\"{}\"\n", i, sentence(i));
  }
  place_->write("rows.csv", commas);
  place_->write("plain.tsv", rows(96, false));
  place_->write("rows.jsonl", objects + "\n");
  const Outcome with_blank = predict("rows.jsonl", "a.jsonl", {"--text-field", "review"});
  ASSERT_EQ(with_blank.status, 0);
  EXPECT_SAYS(with_blank.err, "1 blank line of ");
  EXPECT_SAYS(with_blank.err, "rows.jsonl is no row, and ");
  ASSERT_EQ(predict("rows.csv", "b.csv", {"--text-field", "the text"}).status, 0);
  // A position: no row is a header.
  ASSERT_EQ(predict("plain.tsv", "c.tsv", {"--text-field", "0"}).status, 0);
  const auto lines = split(place_->read("a.jsonl"), '\n'), cells = split(place_->read("b.csv"), '\n');
  const std::vector<Row> plain = table("c.tsv");
  ASSERT_EQ(lines.size(), 96u);
  ASSERT_EQ(cells.size(), 97u);
  ASSERT_EQ(plain.size(), 96u);
  EXPECT_EQ(cells[0], "label,probability,margin,probability_no,probability_yes");
  for (size_t i = 0; i < 96; ++i) {
    const json row = json::parse(lines[i]);
    EXPECT_EQ(row["label"], expected[i].label);
    EXPECT_EQ(row["probability"], expected[i].probability);
    EXPECT_EQ(row["margin"], expected[i].margin);
    EXPECT_EQ(row["probabilities"], (json{{"no", expected[i].no}, {"yes", expected[i].yes}}));
    EXPECT_EQ(std::stod(split(cells[i + 1], ',').at(4)), expected[i].yes);
    EXPECT_EQ(plain[i].yes, expected[i].yes);
  }
}

// Files that pyarrow has written, and the same rows as objects: tests/runtime/tables/make_tables.py.
TEST_F(Predict, ReadsTheOtherKindsOfTables) {
  const char* source = std::getenv("ZEROSTEP_SOURCE_DIR");
  ASSERT_NE(source, nullptr);
  const std::string tables = std::string(source) + "/tests/runtime/tables/";
  const auto predicted = [&](const std::string& input, const std::string& field) {
    const Outcome done = place_->run({"predict", "--model", place_->path("model"), "--input", tables + input, "--output",
                                      place_->path("kinds.tsv"), "--text-field", field});
    EXPECT_EQ(done.status, 0) << input << ": " << done.err;
    return done.status == 0 ? place_->read("kinds.tsv") : std::string();
  };
  const std::string classes = predicted("classes.jsonl", "sentence"), rows = predicted("rows.jsonl", "text");
  EXPECT_EQ(std::count(classes.begin(), classes.end(), '\n'), 41);
  EXPECT_EQ(predicted("classes.parquet", "sentence"), classes);
  for (const char* file : {"rows.jsonl.gz", "rows.jsonl.zst", "snappy.parquet", "stream.arrow", "file.arrow"})
    EXPECT_EQ(predicted(file, "text"), rows) << file;
  EXPECT_EQ(predicted("snappy.parquet", "about.place"), predicted("rows.jsonl", "about.place"));
  EXPECT_EQ(predicted("saved", "text"), rows) << "a folder that save_to_disk made, of two files";
  EXPECT_EQ(predicted("saved/*.arrow", "text"), rows);
  const Outcome several =
      place_->run({"predict", "--model", place_->path("model"), "--input", tables + "both", "--output", place_->path("none.tsv")});
  EXPECT_EQ(several.status, 2);
  EXPECT_SAYS(several.err, "holds the splits train, validation: name the folder of one, '" + tables + "both/train'\n");
  // A template: the probabilities of a file in which the texts stand ready.
  std::string ready;
  std::istringstream lines(place_->read(tables + "rows.jsonl"));
  for (std::string line; std::getline(lines, line);) {
    const json row = json::parse(line);
    const std::string title = row["title"].is_null() ? "" : " (" + row["title"].get<std::string>() + ")";
    ready += json{{"text", "Review: " + row["text"].get<std::string>() + title}}.dump() + "\n";
  }
  place_->write("ready.jsonl", ready);
  ASSERT_EQ(predict("ready.jsonl", "ready.tsv").status, 0);
  EXPECT_NE(place_->read("ready.tsv"), rows);
  for (const char* file : {"rows.jsonl", "snappy.parquet", "stream.arrow"}) {
    const Outcome made = place_->run({"predict", "--model", place_->path("model"), "--input", tables + file, "--output",
                                      place_->path("made.tsv"), "--text", "Review: {text}[[ ({title})]]"});
    ASSERT_EQ(made.status, 0) << made.err;
    EXPECT_EQ(place_->read("made.tsv"), place_->read("ready.tsv")) << file;
  }
  for (const auto& [field, says] : {std::pair{"text", "--text-field"}, {"label", "field 'label' is"}}) {
    const Outcome refused = place_->run({"predict", "--model", place_->path("model"), "--input", tables + "classes.parquet", "--output",
                                         place_->path("none.tsv"), "--text-field", field});
    EXPECT_EQ(refused.status, 2) << field;
    EXPECT_SAYS(refused.err, says);
    EXPECT_SAYS(refused.err, "sentence");
    EXPECT_FALSE(place_->exists("none.tsv"));
  }
}

// Names of classes are quoted as each kind of table wants it; what has no name is called as transformers calls it.
TEST_F(Predict, ClassesHaveTheNamesOfTheModel) {
  const std::string config = place_->read("model/config.json");
  json named = json::parse(config);
  named["id2label"] = {{"0", "no, \"never\"\tso"}, {"1", "yes"}};
  place_->write("model/config.json", named.dump());
  place_->write("two.tsv", "text\nso bad\nso good\n");
  ASSERT_EQ(predict("two.tsv", "named.csv").status, 0);
  ASSERT_EQ(predict("two.tsv", "named.tsv").status, 0);
  ASSERT_EQ(predict("two.tsv", "named.jsonl").status, 0);
  EXPECT_SAYS(place_->read("named.csv"), "\"probability_no, \"\"never\"\"\tso\",probability_yes\n\"no, \"\"never\"\"\tso\",");
  EXPECT_SAYS(place_->read("named.tsv"), "probability_no, \"never\" so\tprobability_yes\nno, \"never\" so\t");
  EXPECT_EQ(json::parse(split(place_->read("named.jsonl"), '\n').at(0))["label"], "no, \"never\"\tso");
  named.erase("id2label");
  named.erase("label2id");
  place_->write("model/config.json", named.dump());
  ASSERT_EQ(predict("two.tsv", "numbered.tsv").status, 0);
  EXPECT_SAYS(place_->read("numbered.tsv"), "\tprobability_LABEL_0\tprobability_LABEL_1\nLABEL_0\t");
  place_->write("model/config.json", config);
}

TEST_F(Predict, LongTextsAreCutAndCounted) {
  place_->write("long.tsv", "text\n" + std::string(200, 'a') + "\ngood\n" + std::string(64, 'a') + "\n" + std::string(65, 'b') + "\n");
  const Outcome done = predict("long.tsv", "long_out.tsv");
  ASSERT_EQ(done.status, 0) << done.err;
  EXPECT_SAYS(done.err, "2 texts are longer than the 64 tokens that the model sees: the rest of each was not read");
  const std::vector<Row> found = table("long_out.tsv");
  ASSERT_EQ(found.size(), 4u);
  EXPECT_NEAR(found[0].yes, found[2].yes, 1e-6);
}

TEST_F(Predict, MistakesAreNamedAndLeaveNothing) {
  place_->config();
  ASSERT_EQ(place_->run({"init", place_->path("config.json"), place_->path("language")}).status, 0);
  place_->write("other.tsv", "somebody's\n");
  place_->write("empty.tsv", "text\n");
  place_->write("bad.jsonl", R"({"text": "good"})"
                             "\n"
                             R"({"text": null})"
                             "\n");
  place_->write("latin.tsv", "text\ncaf\xe9\n");
  place_->write("blank.tsv", "text\ngood\n\nbad\n");
  place_->write("twice.tsv", "text\ttext\ngood\tbad\n");
  std::string late = "text\tnumber\n";
  for (int i = 0; i < 600; ++i) late += "good\t1\n";
  place_->write("late.tsv", late + "good\n");
  struct Case {
    std::vector<std::string> arguments;
    std::vector<std::string> says;
  };
  const auto arguments = [&](const char* model, const char* input, const char* output, std::vector<std::string> more = {}) {
    std::vector<std::string> out{"predict",           "--model",  place_->path(model), "--input",
                                 place_->path(input), "--output", place_->path(output)};
    out.insert(out.end(), more.begin(), more.end());
    return out;
  };
  for (const Case& c : {Case{arguments("model", "train.tsv", "wrong.txt"), {"--output", "wrong.txt", ".tsv, .csv or .jsonl"}},
                        Case{arguments("model", "train.tsv", "wrong.tsv", {"--text-field", "review"}),
                             {"train.tsv:1", "no column 'review'", "--text-field", "text, label"}},
                        Case{arguments("model", "train.tsv", "wrong.tsv", {"--text-field", "2"}), {"no column 2", "--text-field"}},
                        Case{arguments("model", "train.tsv", "wrong.tsv", {"--text", "{review}"}),
                             {"train.tsv:1", "no column 'review'", "--text names it", "text, label"}},
                        Case{arguments("model", "train.tsv", "wrong.tsv", {"--text", "review"}), {"--input", "names no field"}},
                        Case{arguments("model", "train.tsv", "wrong.tsv", {"--text", "{text}", "--text-field", "text"}), {"--text-field"}},
                        Case{arguments("model", "missing.tsv", "wrong.tsv"), {"missing.tsv"}},
                        Case{arguments("model", "twice.tsv", "wrong.tsv"), {"twice.tsv:1", "several columns 'text'"}},
                        Case{arguments("model", "run.json", "wrong.tsv"), {"--input", "run.json", "unknown ending"}},
                        Case{arguments("model", "empty.tsv", "wrong.tsv"), {"empty.tsv holds no row"}},
                        Case{arguments("model", "bad.jsonl", "wrong.tsv"), {"bad.jsonl:2", "field 'text' is null"}},
                        Case{arguments("model", "blank.tsv", "wrong.tsv"), {"blank.tsv:3", "no token", "leave its line out"}},
                        Case{arguments("model", "latin.tsv", "wrong.tsv"), {"latin.tsv:2", "0xE9"}},
                        Case{arguments("model", "late.tsv", "wrong.tsv", {"--batch-size", "1"}), {"late.tsv:602", "the row has 1 columns"}},
                        Case{arguments("model", "train.tsv", "train.tsv"), {"--output", "is the input"}},
                        Case{arguments("model", "train.tsv", "other.tsv"), {"--output", "nothing that --output wrote before"}},
                        Case{arguments("model", "train.tsv", "nowhere/wrong.tsv"), {"nowhere", "no folder"}},
                        Case{arguments("language", "train.tsv", "wrong.tsv"), {"predicts tokens, not classes"}},
                        Case{arguments("model", "train.tsv", "wrong.tsv", {"--device", "tpu"}), {"--device", "cpu, cuda or auto"}},
                        Case{arguments("nothing", "train.tsv", "wrong.tsv"), {"nothing", "not a directory"}}}) {
    const Outcome refused = place_->run(c.arguments);
    EXPECT_EQ(refused.status, 2) << c.says[0] << ": " << refused.err;
    for (const std::string& part : c.says) EXPECT_SAYS(refused.err, part);
    EXPECT_FALSE(place_->exists("wrong.tsv") || place_->exists("wrong.tsv.partial")) << c.says[0];
  }
  EXPECT_EQ(place_->read("other.tsv"), "somebody's\n");
  // What it wrote before it replaces.
  ASSERT_EQ(predict("train.tsv", "again.tsv").status, 0);
  place_->write("two.tsv", "text\nso bad\nso good\n");
  ASSERT_EQ(predict("two.tsv", "again.tsv").status, 0);
  EXPECT_EQ(table("again.tsv").size(), 2u);
}

// By a clock of four seconds a row: lines after 12 s, 24 s... name the rows that are done and how long the others take. In a table of the
// same rows in two files each row is as far on the way; a table that is done within ten seconds needs no line.
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
    predict_here(paths, 1, "0", [&] { return std::exchange(seconds, seconds + 4); });
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
      if (predict_here({table}, 32, "text") != rows_of_large_table(groups, kRowBytes)) throw std::runtime_error("rows are missing");
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

// Rounded to nearest, of two as near to the even one: the bits are those of LibTorch's own conversion.
TEST_F(Predict, ExportsInSixteenBitAreRounded) {
  const std::string checkpoint = place_->path("runs/test/checkpoints/step_00000060");
  const SafetensorsFile whole(place_->path("model/model.safetensors"));
  for (const auto& [name, type, dtype] : {std::tuple{"bf16", "BF16", "bfloat16"}, {"fp16", "F16", "float16"}, {"fp32", "F32", "float32"}}) {
    const Outcome done = place_->run({"export", checkpoint, place_->path(name), "--dtype", name});
    ASSERT_EQ(done.status, 0) << done.err;
    EXPECT_EQ(json::parse(place_->read(std::string(name) + "/config.json"))["torch_dtype"], dtype);
    const SafetensorsFile rounded(place_->path(std::string(name) + "/model.safetensors"));
    ASSERT_EQ(rounded.tensors().size(), whole.tensors().size());
    for (const auto& [tensor, info] : whole.tensors()) {
      EXPECT_EQ(rounded.tensor(tensor).type, type);
      const auto count = static_cast<size_t>(info.num_elements());
      std::vector<float> expected(count), found(count);
      whole.read(tensor, 0, info.num_elements(), expected.data());
      rounded.read(tensor, 0, info.num_elements(), found.data());
      for (float& value : expected) {
        if (std::string(name) == "bf16") {
          // The nearest of the two values that have the upper 16 bits, or these and one more.
          uint32_t bits = 0;
          std::memcpy(&bits, &value, 4);
          bits = (bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000;
          std::memcpy(&value, &bits, 4);
        } else if (std::string(name) == "fp16") {
          // Ten bits behind the first; below 2^-14 a step is 2^-24.
          const double step = std::max(std::exp2(std::floor(std::log2(std::abs(static_cast<double>(value)))) - 10), 0x1p-24);
          value = value == 0 ? 0 : static_cast<float>(std::nearbyint(value / step) * step);
        }
      }
      EXPECT_EQ(found, expected) << name << " " << tensor;
    }
  }
  const auto size = [&](const char* name) { return static_cast<double>(place_->read(std::string(name) + "/model.safetensors").size()); };
  EXPECT_LT(size("bf16"), 0.6 * size("fp32"));
  EXPECT_LT(size("fp16"), 0.6 * size("fp32"));
  EXPECT_EQ(place_->read("fp32/model.safetensors"), place_->read("model/model.safetensors"));
  // It is a model to read as any.
  EXPECT_EQ(place_->run({"eval", place_->path("run.json"), "--checkpoint", place_->path("bf16")}).status, 0);
  const Outcome refused = place_->run({"export", checkpoint, place_->path("int8"), "--dtype", "int8"});
  EXPECT_EQ(refused.status, 2);
  EXPECT_SAYS(refused.err, "--dtype is 'int8'; expected fp32, bf16 or fp16");
  EXPECT_FALSE(place_->exists("int8"));
}

}  // namespace
}  // namespace zerostep::testing
