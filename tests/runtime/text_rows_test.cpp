#include "runtime/data/text_rows.h"

#include "runtime/data/table_file.h"
#include "tests/runtime/support/data_test_files.h"
#include "tests/runtime/support/table_files.h"
#include "tests/support/message_of.h"

namespace zerostep {
namespace {

using Rows = std::vector<std::string>;

class TextRowsTest : public DataTest {
 protected:
  // "text@line" of every row, and at the end the blank lines that are none.
  Rows rows(const std::string& name, const std::string& content, const std::string& column) const {
    const std::string file = write(name, content);
    Rows out;
    const int64_t blank = for_each_text(file, {.key = "--input", .text_field = column}, [&](const TextRow& row) {
      EXPECT_TRUE(row.place.starts_with(file + ":")) << row.place;
      out.push_back(row.text + "@" + row.place.substr(file.size() + 1));
    });
    out.push_back(fmt::format("{} blank", blank));
    return out;
  }
};

TEST_F(TextRowsTest, ABlankLineOfOneColumnIsAnEmptyText) {
  for (const char* name : {"a.tsv", "a.csv"}) {
    EXPECT_EQ(rows(name, "good\n\nbad\n", "0"), (Rows{"good@1", "@2", "bad@3", "0 blank"})) << name;
    EXPECT_EQ(rows(name, "\r\n\r\ngood\r\n\r\n", "0"), (Rows{"@1", "@2", "good@3", "@4", "0 blank"})) << name << ", before the first cell";
    EXPECT_EQ(rows(name, "\ntext\n\ngood", "text"), (Rows{"@3", "good@4", "0 blank"})) << name << ", behind a header";
  }
  EXPECT_EQ(rows("a.csv", "\"two\n\nlines\"\n\nlast\n", "0"), (Rows{"two\n\nlines@1", "@4", "last@5", "0 blank"})) << "quotes hold lines";
}

TEST_F(TextRowsTest, OtherBlankLinesAreCounted) {
  EXPECT_EQ(rows("a.tsv", "\ngood\t1\n\n\nbad\t0\n", "0"), (Rows{"good@2", "bad@5", "3 blank"}));
  EXPECT_EQ(rows("a.csv", "\nid,text\n\n7,good\n", "text"), (Rows{"good@4", "1 blank"})) << "those before a header shift nothing";
  EXPECT_EQ(rows("a.jsonl", "\n{\"text\": \"good\"}\n \t\r\n{\"text\": \"\"}\n", "text"), (Rows{"good@2", "@4", "2 blank"}));
}

// Texts of a template are those that training makes of the same rows.
TEST_F(TextRowsTest, ATemplateGivesTheTextsOfTraining) {
  const auto compare = [](const std::string& file, const std::string& text, const std::string& label, size_t count) {
    const DocumentSource source{.key = "--input", .text = text};
    Rows found, trained;
    for_each_text(file, source, [&](const TextRow& row) { found.push_back(row.text); });
    for (const TableRow& row : read_table(file, source, label)) trained.push_back(row.text);
    EXPECT_EQ(found, trained) << file;
    EXPECT_EQ(found.size(), count) << file;
    return found.empty() ? "" : found.back();
  };
  const std::string cells = "idx,sentence,more,label\n7,\"a, b\",x,1\n8,c,,0\n";
  EXPECT_EQ(compare(write("a.csv", cells), "Review: {sentence}[[ ({more})]] {{{idx}}}", "label", 2), "Review: c {8}");
  EXPECT_EQ(compare(write("a.tsv", "7\ta\t1\n8\tb\t0\n"), "{1} of {0}", "2", 2), "b of 8");
  const std::string rows = "{text} ({about.place}) {score}[[ Answer: {answer}.]][[ {tags}]]";
  EXPECT_EQ(compare(table_file("rows.jsonl"), rows, "flag", 40), "Row 39 {brace} [[double]] (scene 0) 4.875 Answer: no.");
  for (const char* name : kTableForms) compare(table_file(name), rows, "flag", 40);
}

TEST_F(TextRowsTest, ColumnsOfATemplateThatAreNotThereAreNamed) {
  const auto message = [&](const std::string& name, const std::string& content, const std::string& text) {
    const DocumentSource source{.key = "--input", .text = text, .ways = {.text = "--text", .skips_missing = ""}};
    return testing::message_of<InputError>([&] { for_each_text(write(name, content), source, [](const TextRow&) {}); });
  };
  EXPECT_EQ(
      message("a.tsv", "a\tb\nx\ty\n", "{a} {c}"),
      fmt::format("--input: {}:1: the first row, the header, has no column 'c' (--text names it, or its position from 0 where there is "
                  "no header); its columns are: a, b",
                  path("a.tsv")));
  EXPECT_EQ(message("a.tsv", "a\tb\nx\ty\n", "{0} {2}"),
            fmt::format("--input: {}:1: there is no column 2 (--text); the first row has 2, counted from 0", path("a.tsv")));
  EXPECT_EQ(message("a.jsonl", "{\"a\": \"x\"}\n", "{a} {c}"),
            fmt::format("--input: {}:1 has no field 'c', which --text names; its fields are: a", path("a.jsonl")));
}

}  // namespace
}  // namespace zerostep
