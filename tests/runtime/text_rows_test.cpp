#include "runtime/data/text_rows.h"

#include "tests/runtime/support/data_test_files.h"

namespace zerostep {
namespace {

using Rows = std::vector<std::string>;

class TextRowsTest : public DataTest {
 protected:
  // "text@line" of every row, and at the end the blank lines that are none.
  Rows rows(const std::string& name, const std::string& content, const std::string& column) const {
    const std::string file = write(name, content);
    Rows out;
    const int64_t blank = for_each_text(file, {.name = column}, "--input", [&](const TextRow& row) {
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

}  // namespace
}  // namespace zerostep
