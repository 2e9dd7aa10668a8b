#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <tuple>

#include "tests/launch/support/predict_case.h"

// What `predict` reads and writes.
namespace zerostep::testing {
namespace {

using nlohmann::json;

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
}  // namespace
}  // namespace zerostep::testing
