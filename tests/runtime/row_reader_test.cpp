#include "runtime/data/row_reader.h"

#include <array>
#include <cstdlib>
#include <random>
#include <sstream>

#include "runtime/data/table_file.h"
#include "tests/runtime/support/data_test_files.h"
#include "tests/runtime/support/table_files.h"
#include "tests/support/message_of.h"

namespace zerostep {
namespace {

using Strings = std::vector<std::string>;

std::string content_of(const std::string& path) {
  std::stringstream content;
  content << std::ifstream(path, std::ios::binary).rdbuf();
  return content.str();
}

// The values of fields in every row, each with its kind: "number kind:text kind:text ...".
Strings values_of(const std::string& path, const Strings& fields) {
  Strings out;
  const auto reader = open_rows(path, fields, "data.train");
  while (const auto batch = reader->next()) {
    while (batch->next()) {
      std::string row = std::to_string(batch->number());
      for (size_t i = 0; i < fields.size(); ++i) {
        const FieldValue value = batch->field(i);
        row += fmt::format(" {}:{}", static_cast<int>(value.kind), value.text);
      }
      out.push_back(row);
    }
  }
  return out;
}

class RowReaderTest : public DataTest {
 protected:
  std::vector<int32_t> tokens(const DocumentSource& source) const {
    DataOptions data = options({}, 1);
    data.sources = {source};
    data.shuffle = false;
    return all_tokens(*DataStream::open(data, *make_byte_tokenizer()));
  }
  // A file of these bytes is refused, and named.
  void refused(const std::string& name, const std::string& content, Strings parts, const DocumentSource& source = {}) const {
    DocumentSource named = source;
    named.paths = {write(name, content)};
    parts.push_back(named.paths[0]);
    expect_error<InputError>([&] { tokens(named); }, parts);
  }
};

// A file of several parts, with blank lines among its rows.
TEST_F(RowReaderTest, RowsOfLinesHaveTheNumbersOfTheirLines) {
  std::string content;
  Strings expected;
  for (int64_t line = 1; line <= 30000; ++line) {
    if (line % 7 == 0) {
      content += " \n";
      continue;
    }
    content += fmt::format("{{\"text\": \"line {}, and something behind it, so that a file of them has several parts\"}}\n", line);
    expected.push_back(fmt::format("{0} 2:line {0}, and something behind it, so that a file of them has several parts", line));
  }
  ASSERT_GT(content.size(), size_t{2} << 20);
  const std::string plain = write("lines.jsonl", content), packed = plain + ".gz";
  ASSERT_EQ(std::system(("gzip -k " + plain).c_str()), 0);
  EXPECT_EQ(values_of(plain, {"text"}), expected);
  EXPECT_EQ(values_of(packed, {"text"}), expected);
}

TEST_F(RowReaderTest, EveryKindOfTableHasTheValuesOfTheLines) {
  const Strings fields = {"number", "text", "title", "answer", "about.place", "about.line", "tags", "score", "flag", "nowhere", "about.no"};
  const Strings expected = values_of(table_file("rows.jsonl"), fields);
  ASSERT_EQ(expected.size(), 40U);
  EXPECT_EQ(expected[1], "2 3:1 2:Row 1 \"quoted\" \\n 2:Title 1 2:yes 2:scene 1 3:10 5:t0 3:0.125 4:false 0: 0:");
  EXPECT_EQ(expected[20], "21 3:20 2:Row 20 1: 1: 2:scene 2 3:200 5:t0 t1 3:2.5 4:true 0: 0:");
  for (const char* name : kTableForms) EXPECT_EQ(values_of(table_file(name), fields), expected) << name;
  const Strings few = {"text", "about.line"};
  for (const char* name : {"saved/data-00000-of-00002.arrow", "both/validation/data-00000-of-00001.arrow"}) {
    const Strings found = values_of(table_file(name), few), all = values_of(table_file("rows.jsonl"), few);
    EXPECT_EQ(found, Strings(all.begin(), all.begin() + std::ssize(found))) << name;
  }
  EXPECT_EQ(values_of(table_file("none.parquet"), {"nowhere"}).size(), 40U) << "rows without a wanted field are rows";
  EXPECT_EQ(values_of(table_file("stream.arrow"), {"nowhere"}).size(), 40U);
}

TEST_F(RowReaderTest, EveryKindOfTableGivesTheSameTokens) {
  const auto expected = tokens({.paths = {table_file("rows.jsonl")}});
  for (const char* name : kTableForms) EXPECT_EQ(tokens({.paths = {table_file(name)}}), expected) << name;
  EXPECT_EQ(tokens({.paths = {table_file("saved")}}), expected) << "two files in the order of state.json";
  EXPECT_EQ(tokens({.paths = {table_file("sav*")}}), expected);
  EXPECT_EQ(tokens({.paths = {table_file("both")}, .split = "validation"}), expected);
  EXPECT_EQ(tokens({.paths = {table_file("both")}, .split = "train"}), tokens({.paths = {table_file("rows.jsonl")}, .max_documents = 5}));
}

TEST_F(RowReaderTest, SplitsThatAreNotThereAreNamedWithThoseThatAre) {
  const auto refuse = [&](const std::string& name, const std::string& split, const Strings& parts) {
    expect_error<InputError>([&] { tokens({.key = "data.eval", .paths = {table_file(name)}, .split = split}); }, parts);
  };
  refuse("both", "", {"data.eval", "holds the splits train, validation", "\"split\": \"train\"", "both/train"});
  refuse("both", "test", {"data.eval", "no split 'test'", "train, validation"});
  refuse("saved", "train", {"data.eval", "without a split 'train'"});
  refuse("rows.jsonl", "train", {"data.eval", "is a file, which has no splits"});
  // A command names its own option, or the folder where it has none.
  const auto advice = [&](const std::string& way) {
    return testing::message_of<InputError>([&] { corpus_files({.key = "x", .paths = {table_file("both")}, .ways = {.split = way}}); });
  };
  EXPECT_TRUE(advice("--split").ends_with(": name one, --split train, or its folder, '" + table_file("both/train") + "'"));
  EXPECT_TRUE(advice("").ends_with(": name the folder of one, '" + table_file("both/train") + "'"));
  EXPECT_FALSE(corpus_files({.paths = {table_file("both/train")}}).empty());
  write("broken/state.json", "{\"_data_files\": [{\"filename\": \"data-00000.arrow\"}]}");
  expect_error<InputError>([&] { tokens({.paths = {path("broken")}}); }, {"state.json", "data-00000.arrow", "not there"});
  write("odd/state.json", "{}");
  expect_error<InputError>([&] { tokens({.paths = {path("odd")}}); }, {"state.json", "_data_files"});
}

TEST_F(RowReaderTest, FoldersLeadNowhereElse) {
  write("d/s.arrow", content_of(table_file("stream.arrow")));
  for (const std::string& outside : {std::string("../d/s.arrow"), path("d/s.arrow"), std::string("x/../../d/s.arrow")}) {
    write("leads/state.json", "{\"_data_files\": [{\"filename\": \"" + outside + "\"}]}");
    expect_error<InputError>([&] { tokens({.paths = {path("leads")}}); }, {"leads/state.json", "'" + outside + "'", "outside its folder"});
  }
  write("names/dataset_dict.json", "{\"splits\": [\"../leads\"]}");
  expect_error<InputError>([&] { tokens({.paths = {path("names")}}); }, {"dataset_dict.json", "'../leads'", "outside its folder"});
}

TEST_F(RowReaderTest, ColumnsOfOneNameAreRefused) {
  std::string arrow = content_of(table_file("stream.arrow")), lines = "{\"l\": [\"a\"]}\n{\"l\": [\"a\", null]}\n";
  for (size_t at = arrow.find("title"); at != std::string::npos; at = arrow.find("title", at)) arrow.replace(at, 5, "score");
  refused("twice.arrow", arrow, {"data.train", "several columns called 'score'"}, {.text = "{score}"});
  EXPECT_FALSE(tokens({.paths = {path("twice.arrow")}}).empty()) << "columns that are not asked for may be";
  refused("null.jsonl", lines, {"null.jsonl:2", "field 'l' is array with a null among its values"}, {.text = "{l}"});
}

TEST_F(RowReaderTest, DamagedTablesAreNamed) {
  const std::string good = content_of(table_file("none.parquet")), arrow = content_of(table_file("stream.arrow"));
  std::mt19937 random(3);
  std::string noisy = good, flipped = good;
  const auto length = static_cast<unsigned char>(good[good.size() - 8]) + 256 * static_cast<unsigned char>(good[good.size() - 7]);
  for (size_t i = good.size() - 8 - static_cast<size_t>(length); i < good.size() - 8; ++i) noisy[i] = static_cast<char>(random());
  flipped[good.size() - 6] = static_cast<char>(flipped[good.size() - 6] ^ 0x7F);
  refused("noisy.parquet", noisy, {"data.train", "cannot be read as Parquet"});
  refused("flipped.parquet", flipped, {"cannot be read as Parquet"});
  refused("cut.parquet", good.substr(0, good.size() / 2), {"cannot be read as Parquet"});
  refused("short.parquet", good.substr(0, 6), {"cannot be read as Parquet"});
  refused("empty.parquet", "", {"cannot be read as Parquet"});
  refused("text.parquet", "no table\nat all\n", {"cannot be read as Parquet"});
  refused("cut.arrow", arrow.substr(0, arrow.size() / 2), {"cannot be read as Arrow"});
  refused("endless.arrow", arrow.substr(0, arrow.size() - 8), {"cannot be read as Arrow", "end mark"});
  refused("empty.arrow", "", {"cannot be read as Arrow", "empty"});
  refused("text.arrow", "no table\nat all\n", {"cannot be read as Arrow"});
  const std::string file = content_of(table_file("file.arrow"));
  refused("cut_file.arrow", file.substr(0, file.size() - 20), {"cannot be read as Arrow"});
}

// Whatever bytes are wrong: an error that names the file, or other texts; never a signal.
TEST_F(RowReaderTest, NoWrongByteEndsTheProgram) {
  std::mt19937 random(5);
  for (const char* name : {"none.parquet", "zstd.parquet", "dictionary.parquet", "stream.arrow", "file.arrow", "dictionary.arrow",
                           "view.arrow", "rows.jsonl.gz", "rows.jsonl.zst"}) {
    const std::string good = content_of(table_file(name));
    for (int round = 0; round < 40; ++round) {
      std::string bad = good;
      for (int i = 0; i < 1 + round % 4; ++i) bad[random() % bad.size()] = static_cast<char>(random());
      if (round % 10 == 9) bad.resize(random() % bad.size());
      const std::string file = write(name, bad);
      try {
        tokens({.paths = {file}});
        values_of(file, {"title", "about.place", "tags", "score", "flag"});
      } catch (const InputError& error) {
        EXPECT_NE(std::string(error.what()).find(file), std::string::npos) << error.what();
      }
    }
  }
}

TEST_F(RowReaderTest, ColumnsOfOtherTypesAreNamedWithThoseOfTexts) {
  for (const char* name : {"none.parquet", "stream.arrow"}) {
    const auto refuse = [&](const DocumentSource& given, Strings parts) {
      DocumentSource source = given;
      source.paths = {table_file(name)};
      parts.push_back(name);
      expect_error<InputError>([&] { tokens(source); }, parts);
    };
    const std::string texts = "its columns of text are: text, title, answer, about.place";
    refuse({.text_field = "number"}, {"row 1", "'number' is int64", "string is expected", texts});
    refuse({.text_field = "txet"}, {"no column 'txet'", "data.text_field", texts, "number (int64)"});
    refuse({.text_field = "title"}, {"row 8", "'title' is null", "data.missing"});
    refuse({.text = "{about}"}, {"row 1", "'about' is struct<", texts});
  }
  for (const char* name : {"rows.jsonl", "rows.jsonl.gz"}) {
    const auto refuse = [&](const DocumentSource& given, Strings parts) {
      DocumentSource source = given;
      source.paths = {table_file(name)};
      parts.push_back(name);
      expect_error<InputError>([&] { tokens(source); }, parts);
    };
    const std::string texts = "(its fields of text are: about.place, text, title)";  // of this row: its answer is null
    refuse({.text_field = "about.line"}, {":1: field 'about.line' is number; a string is expected " + texts});
    refuse({.join_fields = {"flag"}}, {":1: field 'flag' is boolean; a string is expected " + texts});
    refuse({.text = "{about}"}, {":1: field 'about' is object", texts});
  }
  refused("numbers.jsonl", "{\"n\": 1}\n", {"numbers.jsonl:1: field 'n' is number; a string is expected (it has no field of text)"},
          {.text_field = "n"});
}

// A field inside another has the path by which it is named, whatever the kind of file.
TEST_F(RowReaderTest, EveryKindOfTableListsTheSameFields) {
  const auto fields = [](const std::string& name) {
    Strings out;
    for (const TableField& field : table_fields(table_file(name), "data.train")) out.push_back(field.name + (field.is_text ? " text" : ""));
    return out;
  };
  EXPECT_EQ(fields("rows.jsonl"),
            (Strings{"number", "text text", "title text", "answer text", "about.place text", "about.line", "tags", "score", "flag"}));
  for (const char* name : kTableForms) EXPECT_EQ(fields(name), fields("rows.jsonl")) << name;
}

TEST_F(RowReaderTest, FieldsInsideObjectsAreListedByTheirPaths) {
  const auto fields = [&](const std::string& content) {
    Strings out;
    for (const TableField& field : table_fields(write("fields.jsonl", content), "data.train")) out.push_back(field.name + " " + field.type);
    return out;
  };
  EXPECT_EQ(fields("{\"a\": {\"b\": {\"c\": \"x\"}, \"n\": 1}}\n{\"a\": null}\n{\"a\": {\"b\": {}, \"n\": 0.5}}\n"),
            (Strings{"a.b.c string", "a.n integer or number"}));
  EXPECT_EQ(fields("{\"a\": {}}\n{\"a\": null}\n"), (Strings{"a object or null"}));
  EXPECT_EQ(fields("{\"a\": \"x\"}\n{\"a\": {\"b\": [1]}}\n"), (Strings{"a string", "a.b list"}));
  // Names that are data would be listed without end: of one row, and of all rows.
  std::string wide = "{\"text\": \"x\", \"of\": {\"0\": 0", many;
  for (int i = 1; i < 1000; ++i) wide += fmt::format(", \"{}\": 0", i);
  EXPECT_EQ(fields(wide + "}}\n"), (Strings{"text string", "of object"}));
  for (int i = 0; i < 1000; ++i) many += fmt::format("{{\"of\": {{\"{0}\": 0}}, \"also{1}\": true}}\n", i, i % 2);
  const Strings all = fields(many);
  ASSERT_EQ(all.size(), 201U);
  EXPECT_EQ(all[199], "of.197 integer");
  EXPECT_EQ(all[200], "of object of further fields");
}

TEST_F(RowReaderTest, TextsThatAreNoUtf8AreNamedWithTheirRow) {
  std::string parquet = content_of(table_file("none.parquet")), arrow = content_of(table_file("stream.arrow"));
  for (std::string* content : {&parquet, &arrow}) {
    const size_t at = content->find("Row 22 ");
    ASSERT_NE(at, std::string::npos);
    (*content)[at + 4] = '\xE9';
  }
  refused("latin.parquet", parquet, {"data.train", "row 23", "'text'", "0xE9", "not UTF-8", "byte 5"});
  refused("latin.arrow", arrow, {"row 23", "'text'", "0xE9", "not UTF-8"});
  refused("latin.jsonl", "{\"text\": \"a\"}\n{\"text\": \"caf\xE9\"}\n", {":2: byte 14 of the line, 0xE9", "not UTF-8"});
}

TEST_F(RowReaderTest, ClassificationReadsEveryKindOfTable) {
  const auto rows = [](const std::string& name, const std::string& text, const std::string& label) {
    Strings out;
    for (const TableRow& row : read_table(table_file(name), {.text_field = text}, label))
      out.push_back(fmt::format("{}:{}@{}", row.label, row.text, row.line));
    return out;
  };
  const Strings expected = rows("classes.jsonl", "sentence", "label");
  ASSERT_EQ(expected.size(), 40U);
  EXPECT_EQ(expected[1], "1:Row 1 \"quoted\" \\n@2");
  EXPECT_EQ(rows("classes.parquet", "sentence", "label"), expected) << "the numbers of classes that have names";
  for (const char* name : kTableForms) {
    EXPECT_EQ(rows(name, "text", "flag"), rows("rows.jsonl", "text", "flag")) << name;
    EXPECT_EQ(rows(name, "text", "score"), rows("rows.jsonl", "text", "score")) << name;
    EXPECT_EQ(rows(name, "text", "about.place"), rows("rows.jsonl", "text", "about.place")) << name;
    expect_error<InputError>([&] { rows(name, "text", "answer"); }, {name, "'answer', the label, is null"});
    expect_error<InputError>([&] { rows(name, "text", "lable"); }, {name, "'lable'", "data.label_field"});
  }
}

TEST_F(RowReaderTest, CompressedTextIsTheText) {
  std::string text;
  for (int i = 0; i < 200000; ++i) text += fmt::format("line {} caf\xC3\xA9\n", i);
  for (const auto& [name, command] : {std::pair{"a.txt.gz", "gzip -c"}, {"a.txt.zst", "zstd -qc"}}) {
    const std::string plain = write("a.txt", text), packed = path(name);
    if (std::system(fmt::format("{} {} > {} 2> /dev/null", command, plain, packed).c_str()) != 0) continue;
    EXPECT_EQ(tokens({.paths = {packed}}), documents({text})) << name;
  }
}

}  // namespace
}  // namespace zerostep
