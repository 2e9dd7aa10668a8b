#include "runtime/data/table_file.h"

#include <nlohmann/json.hpp>

#include "runtime/data/corpus_files.h"
#include "runtime/data/label_names.h"
#include "tests/runtime/support/data_test_files.h"

namespace zerostep {
namespace {

struct Columns {
  std::string text = "text", label = "label";
  std::vector<std::string> join = {};
  bool skips_missing = false;
};

class TableFileTest : public DataTest {
 protected:
  std::vector<TableRow> read(const std::string& name, const std::string& content, const Columns& columns = {},
                             TableNotes* notes = nullptr) const {
    const DocumentSource source{.text_field = columns.text, .join_fields = columns.join, .skips_missing = columns.skips_missing};
    return read_table(write(name, content), source, columns.label, notes);
  }
  // "label:text@line" of every row.
  std::vector<std::string> rows(const std::string& name, const std::string& content, const Columns& columns = {}) const {
    std::vector<std::string> out;
    for (const TableRow& row : read(name, content, columns)) out.push_back(fmt::format("{}:{}@{}", row.label, row.text, row.line));
    return out;
  }
  void refused(const std::string& name, const std::string& content, const Columns& columns, std::vector<std::string> parts) const {
    parts.push_back(path(name));
    expect_error<InputError>([&] { read(name, content, columns); }, parts);
  }
};

using Rows = std::vector<std::string>;

TEST_F(TableFileTest, TabsPartColumnsAndQuotesAreText) {
  EXPECT_EQ(rows("a.tsv", "one \"long\" string\t0\nit 's, good\t1\r\n\n\"\t0\nlast\t1"),
            (Rows{"0:one \"long\" string@1", "1:it 's, good@2", "0:\"@4", "1:last@5"}));
}

TEST_F(TableFileTest, CommasFollowRfc4180) {
  EXPECT_EQ(rows("a.csv",
                 "text,label\r\n"
                 "plain,pos\r\n"
                 "\"with, comma\",neg\r\n"
                 "\"two\r\nlines\",pos\r\n"
                 "\"a \"\"quoted\"\" word\",\"neg\"\r\n"
                 "\r\n"
                 "\"\", pos \r\n"
                 "in\"side,neg"),
            (Rows{"pos:plain@2", "neg:with, comma@3", "pos:two\r\nlines@4", "neg:a \"quoted\" word@6", "pos:@8", "neg:in\"side@9"}));
}

TEST_F(TableFileTest, LinesOfJsonAreObjects) {
  EXPECT_EQ(
      rows("a.jsonl",
           "{\"text\": \"one\\n\", \"label\": 1}\n\n{\"label\": \" x \", \"text\": \"\\u00e9\"}\r\n{\"text\": \"\", \"label\": true}"),
      (Rows{"1:one\n@1", "x:\xC3\xA9@3", "true:@4"}));
}

TEST_F(TableFileTest, ObjectsThatLackATextAreLeftOutAndCounted) {
  const std::string text = "{\"text\": \"a\", \"more\": \"b\", \"label\": 1}\n";
  const std::string holed = text + "{\"text\": \"a\", \"label\": 1}\n{\"text\": null, \"more\": \"b\", \"label\": 1}\n" + text;
  refused("a.jsonl", holed, {.join = {"more"}}, {":2 ", "no field 'more'"});
  TableNotes notes;
  const auto found = read("b.jsonl", holed, {.join = {"more"}, .skips_missing = true}, &notes);
  EXPECT_EQ(notes.num_left_out, 2);
  ASSERT_EQ(found.size(), 2u);
  EXPECT_EQ(found[1].line, 4);
  // A label is no text.
  refused("a.jsonl", "{\"text\": \"a\"}\n", {.skips_missing = true}, {":1 ", "no field 'label'"});
}

TEST_F(TableFileTest, ColumnsByNameAndPosition) {
  const std::string table = "id\tsentence\tlabel\textra\n7\tgood\t1\tmore\n8\tbad\t0\tless\n";
  EXPECT_EQ(rows("a.tsv", table, {.text = "sentence"}), (Rows{"1:good@2", "0:bad@3"}));
  EXPECT_EQ(rows("a.tsv", table, {.text = "sentence", .label = "id"}), (Rows{"7:good@2", "8:bad@3"}));
  EXPECT_EQ(rows("a.tsv", table, {.text = "sentence", .join = {"extra", "id"}}), (Rows{"1:good\nmore\n7@2", "0:bad\nless\n8@3"}));
  EXPECT_EQ(rows("a.tsv", table, {.text = "3", .label = "2"}), (Rows{"1:more@2", "0:less@3"})) << "a header of numbered columns";
  EXPECT_EQ(rows("a.tsv", "a\tb\n1\tx\n2\ty\n", {.text = "1", .label = "0"}), (Rows{"1:x@2", "2:y@3"}));
  EXPECT_EQ(rows("a.tsv", "x\ta\ny\tb\n", {.text = "0", .label = "1"}), (Rows{"a:x@1", "b:y@2"})) << "labels in words have no such header";
  EXPECT_EQ(rows("a.tsv", "review\tsentiment\ngood\t1\nbad\t0\n"), (Rows{"1:good@2", "0:bad@3"}));
  EXPECT_EQ(rows("a.tsv", "only\tone\n"), (Rows{"one:only@1"}));
  EXPECT_EQ(rows("a.csv", "\xEF\xBB\xBFtext,label\na,b\n"), (Rows{"b:a@2"})) << "a byte order mark";
  EXPECT_EQ(rows("a.tsv", "label\ttext\n"), Rows{});
  EXPECT_EQ(rows("a.tsv", ""), Rows{});
}

TEST_F(TableFileTest, ErrorsNameFileLineAndColumn) {
  refused("a.tsv", "sentence\tlabel\nx\t1\n", {}, {"data.train", ":1:", "no column 'text'", "data.text_field", "sentence, label"});
  refused("a.tsv", "a\tb\tc\n", {}, {":1:", "3 columns (a, b, c)", "data.label_field"});
  refused("a.tsv", "a\tb\n", {.text = "x", .label = "1"}, {":1:", "no column 'x'", "a, b"});
  refused("a.tsv", "a\tb\n", {.text = "0", .label = "2"}, {":1:", "no column 2", "data.label_field"});
  refused("a.tsv", "a\t1\nb\t1\t2\n", {}, {":2:", "3 columns", "2 are expected"});
  refused("a.tsv", "a\t1\n\nb\n", {}, {":3:", "1 columns", "2 are expected"});
  refused("a.csv", "text,label\nx, \n", {}, {":2:", "column 1", "is empty"});
  refused("a.csv", "text,label\n\"x,1\ny,2\n", {}, {":2:", "column 0", "never closed"});
  refused("a.csv", "text,label\n\"x\"y,1\n", {}, {":2:", "column 0", "'y,1'"});
  refused("a.jsonl", "{\"text\": \"x\", \"label\": 1}\n{\"text\": \"x\"}\n", {}, {":2 ", "no field 'label'", "text"});
  refused("a.jsonl", "{\"text\": 5, \"label\": 1}\n", {}, {":1:", "'text'", "number"});
  refused("a.jsonl", "{\"text\": \"x\", \"label\": [1]}\n", {}, {":1:", "'label'", "[1]"});
  refused("a.jsonl", "{\"text\": \"x\", \"label\": \" \"}\n", {}, {":1:", "is empty"});
  refused("a.jsonl", "\n{\"text\"\n", {}, {":2 ", "not valid JSON"});
  refused("a.jsonl", "[1]\n", {}, {":1 ", "array"});
  expect_error<InputError>([&] { table_files({.key = "data.eval", .paths = {write("a.txt", "x")}}); },
                           {"data.eval", "a.txt", ".tsv, .csv or .jsonl"});
  expect_error<InputError>([&] { table_files({.key = "data.eval", .paths = {path("*.tsvx")}}); },
                           {"data.eval", "no file matches", ".tsv, .csv, .jsonl, .parquet or .arrow"});
}

// One label is the same in every kind of table.
TEST_F(TableFileTest, NumbersAreLabelsInEveryKindOfTable) {
  const Rows expected{"1:a@1", "0:b@2", "-2:c@3", "1.5:d@4"};
  EXPECT_EQ(rows("a.tsv", "a\t1.0\nb\t0.00\nc\t-2.0\nd\t1.5\n"), expected);
  EXPECT_EQ(rows("a.csv", "a,1.0\nb,0.0\nc,-2.0\nd,1.5\n"), expected);
  EXPECT_EQ(rows("a.jsonl",
                 "{\"text\": \"a\", \"label\": 1.0}\n{\"text\": \"b\", \"label\": 0.0}\n{\"text\": \"c\", \"label\": -2.0}\n"
                 "{\"text\": \"d\", \"label\": 1.5}\n"),
            expected);
  EXPECT_EQ(rows("a.tsv", "a\tv1.0\nb\t1.\nc\t.0\n"), (Rows{"v1.0:a@1", "1.:b@2", ".0:c@3"})) << "these are names";
}

TEST_F(TableFileTest, TextThatIsNoneIsNamedWithItsPlace) {
  refused("latin1.tsv", "good\t1\ncaf\xE9 x\t0\n", {}, {"data.train", "latin1.tsv:2:", "byte 4 of the line", "0xE9", "iconv"});
  refused("latin1.csv", "text,label\n\"na\xEFve\",0\n", {}, {"latin1.csv:2:", "0xEF"});
  refused("latin1.jsonl", "{\"text\": \"caf\xE9\", \"label\": 1}\n", {}, {"latin1.jsonl:1:", "0xE9"});
  refused("utf16.tsv", std::string("\xFF\xFEg\0\t\0", 6), {}, {"utf16.tsv", "UTF-16"});
  refused("utf16.csv", std::string("g\0o\0,\0", 6), {}, {"utf16.csv:1:", "UTF-16"});
  refused("mac.tsv", "good\t1\rbad\t0\r", {}, {"mac.tsv", "CR alone"});
  refused("mac.csv", "text,label\rgood,1\r", {}, {"mac.csv", "CR alone"});
  refused("mac.jsonl", "{\"text\": \"a\", \"label\": 1}\r{\"text\": \"b\", \"label\": 1}\r", {}, {"mac.jsonl", "CR alone"});
  EXPECT_EQ(rows("a.tsv", "a\t1\r\nb\t0\r\n"), (Rows{"1:a@1", "0:b@2"})) << "CR LF is fine";
}

TEST_F(TableFileTest, WholeNumbers) {
  for (const char* yes : {"0", "7", "-1", "12", "100"}) EXPECT_TRUE(is_whole_number(yes)) << yes;
  for (const char* no : {"", "-", "01", "-0", "1.0", "+1", "1a", " 1", "1234567890123456"}) EXPECT_FALSE(is_whole_number(no)) << no;
}

TEST(LabelNames, NumbersStandForThemselvesAndNamesAreSorted) {
  const auto names = [](const std::vector<std::string>& found, int64_t num_labels) {
    return LabelNames::found_in_data(found, num_labels, "data.train").names();
  };
  using Names = std::vector<std::string>;
  EXPECT_EQ(names({"1", "0", "1"}, 2), (Names{"0", "1"}));
  EXPECT_EQ(names({"1"}, 3), (Names{"0", "1", "2"}));
  EXPECT_EQ(names({"3", "1"}, 0), (Names{"0", "1", "2", "3"}));
  EXPECT_EQ(names({"10", "2", "-1"}, 0), (Names{"-1", "2", "10"}));
  EXPECT_EQ(names({"1", "2"}, 2), (Names{"1", "2"})) << "numbers that do not fit count from 0";
  EXPECT_EQ(names({"pos", "neg", "pos"}, 2), (Names{"neg", "pos"}));
  EXPECT_EQ(names({"b", "1", "a"}, 0), (Names{"1", "a", "b"}));
  expect_error<InputError>([&] { names({"a", "b", "c"}, 2); }, {"data.train", "3 labels", "a, b, c", "2 classes", "model.num_labels to 3"});
  expect_error<InputError>([&] { names({}, 2); }, {"data.train", "no label"});
  const LabelNames two({"neg", "pos"});
  EXPECT_EQ(two.index("pos"), 1);
  EXPECT_EQ(two.index("other"), -1);
  EXPECT_EQ(two.name(0), "neg");
  EXPECT_THROW(LabelNames({"a", "a"}), InputError);
  EXPECT_EQ(names({"LABEL_2", "LABEL_0"}, 3), (Names{"LABEL_0", "LABEL_1", "LABEL_2"})) << "as transformers numbers them";
  EXPECT_EQ(names({"LABEL_2", "other"}, 3), (Names{"LABEL_2", "other"}));
  expect_error<InputError>([&] { names({"0.5", "1.5", "2.75"}, 2); }, {"not values to predict"});
}

TEST(LabelNames, CasesMayDifferWhereOneNameFits) {
  const LabelNames names({"NEGATIVE", "Positive", "true", "True"});
  EXPECT_EQ(names.match("negative"), 0);
  EXPECT_EQ(names.match("POSITIVE"), 1);
  EXPECT_EQ(names.match("True"), 3) << "as it is written, where it is";
  EXPECT_EQ(names.match("TRUE"), -1) << "two fit";
  EXPECT_EQ(names.match("neutral"), -1);
  EXPECT_EQ(names.index("negative"), -1);
}

TEST(LabelNames, ClassesBeyondTheNamesAreCalledAsTransformersDoes) {
  using Names = std::vector<std::string>;
  EXPECT_EQ(LabelNames({"neg", "pos"}).filled_up(3).names(), (Names{"neg", "pos", "LABEL_2"}));
  EXPECT_EQ(LabelNames({"neg", "LABEL_2"}).filled_up(3).names(), (Names{"neg", "LABEL_2", "LABEL_2_"}));
  EXPECT_EQ(LabelNames({"neg", "pos"}).filled_up(2).names(), (Names{"neg", "pos"}));
}

}  // namespace
}  // namespace zerostep
