#include "runtime/data/text_template.h"

#include "tests/runtime/support/data_test_files.h"
#include "tests/runtime/support/table_files.h"
#include "tests/support/expect_says.h"
#include "tests/support/message_of.h"

namespace zerostep {
namespace {

using Strings = std::vector<std::string>;

class TextTemplateTest : public DataTest {
 protected:
  // The texts of all rows; "(left out)" for one that lacks a field.
  Strings texts(const std::string& file, const DocumentSource& source) const {
    const TextTemplate made(source);
    const auto reader = open_rows(file, made.fields(), source.key);
    Strings out;
    std::string buffer;
    while (const auto batch = reader->next())
      while (batch->next()) out.emplace_back(made.text(*batch, buffer).value_or("(left out)"));
    return out;
  }
  Strings of_lines(const std::string& lines, const std::string& text, bool skips = false) const {
    return texts(write("rows.jsonl", lines), {.text = text, .skips_missing = skips});
  }
};

TEST_F(TextTemplateTest, FieldsStandInTheirPlaces) {
  const std::string lines =
      "{\"a\": \"x\", \"n\": 7, \"r\": 0.5, \"b\": true, \"in\": {\"side\": \"y\", \"deep\": {\"er\": \"z\"}}, \"l\": [\"p\", \"q\"], "
      "\"d.o\": \"t\"}\n";
  EXPECT_EQ(of_lines(lines, "{a}"), Strings{"x"});
  EXPECT_EQ(of_lines(lines, "Q: {a}\nA: {a}."), Strings{"Q: x\nA: x."});
  EXPECT_EQ(of_lines(lines, "{n} {r} {b}"), Strings{"7 0.5 true"});
  EXPECT_EQ(of_lines(lines, "{in.side}{in.deep.er}"), Strings{"yz"});
  EXPECT_EQ(of_lines(lines, "{d.o}"), Strings{"t"}) << "a name with a dot";
  EXPECT_EQ(of_lines(lines, "{l}"), Strings{"p q"});
  EXPECT_EQ(of_lines(lines, "{{{a}}} }} ]] [x]"), Strings{"{x} } ]] [x]"});
  EXPECT_EQ(TextTemplate({.text = "{a} {b}[[{c}{a}]]"}).fields(), (Strings{"a", "b", "c"}));
  EXPECT_EQ(TextTemplate({.text = "{a} {b}[[{c}{a}]]"}).required_fields(), (Strings{"a", "b"}));
}

TEST_F(TextTemplateTest, OptionalPartsGoWithWhatTheyLack) {
  const std::string lines =
      "{\"a\": \"x\", \"b\": \"y\", \"c\": \"z\"}\n{\"a\": \"x\", \"b\": \"\", \"c\": \"z\"}\n{\"a\": \"x\", \"b\": null, \"c\": \"z\"}\n"
      "{\"a\": \"x\", \"c\": \"z\"}\n{\"a\": \"\", \"b\": \"y\", \"c\": []}\n";
  EXPECT_EQ(of_lines(lines, "{a}[[ B: {b}.]]!"), (Strings{"x B: y.!", "x!", "x!", "x!", " B: y.!"}));
  EXPECT_EQ(of_lines(lines, "[[{b}{c}]][[({b})]]<"), (Strings{"yz(y)<", "<", "<", "<", "(y)<"}));
  EXPECT_EQ(of_lines(lines, "{a}[[ {b} ]][[{c}]]"), (Strings{"x y z", "xz", "xz", "xz", " y "}));
  const std::string inner = "{\"a\": \"x\", \"in\": null}\n{\"a\": \"x\", \"in\": {\"b\": \"y\"}}\n{\"a\": \"x\", \"in\": 5}\n";
  EXPECT_EQ(of_lines(inner, "{a}[[{in.b}]]"), (Strings{"x", "xy", "x"}));
}

TEST_F(TextTemplateTest, TablesGiveTheTextsOfTheLines) {
  const DocumentSource source{.text = "{text} ({about.place}, {about.line}) {score} {flag}[[ Answer: {answer}.]][[ {tags}]] {{}}",
                              .skips_missing = true};
  const Strings expected = texts(table_file("rows.jsonl"), source);
  ASSERT_EQ(expected.size(), 40U);
  EXPECT_EQ(expected[1], "Row 1 \"quoted\" \\n (scene 1, 10) 0.125 false Answer: yes. t0 {}");
  EXPECT_EQ(expected[2], "Row 2 \xE2\x80\x93 na\xC3\xAFve \xE4\xB8\xAD\xE6\x96\x87 \xF0\x9F\x8E\xAD (scene 2, 20) 0.25 true t0 t1 {}");
  for (const char* name : kTableForms) EXPECT_EQ(texts(table_file(name), source), expected) << name;
}

TEST_F(TextTemplateTest, RowsThatLackAFieldAreNamedOrLeftOut) {
  const std::string lines = "{\"a\": \"x\"}\n{\"a\": \"x\", \"b\": null}\n{\"a\": \"x\", \"b\": \"\"}\n";
  EXPECT_EQ(of_lines(lines, "{a}{b}", true), (Strings{"(left out)", "(left out)", "x"}));
  expect_error<InputError>([&] { of_lines(lines, "{a} {b}"); },
                           {"data.train", "rows.jsonl:1 has no field 'b'", "template of data.train", "its fields are: a", "data.missing"});
  expect_error<InputError>([&] { of_lines("{\"b\": null}\n", "{b}"); }, {"rows.jsonl:1: field 'b' is null", "data.missing"});
  // Commands name their options in place of keys.
  const SourceWays options{.text = "--text", .text_field = "--text-field", .skips_missing = "--missing skip"};
  for (const auto& [source, way] : {std::pair{DocumentSource{.text = "{b}", .ways = options}, "--text"},
                                    {DocumentSource{.text_field = "b", .ways = options}, "--text-field"}})
    EXPECT_EQ(testing::message_of<InputError>([&] { texts(write("rows.jsonl", "{\"a\": \"x\"}\n"), source); }),
              fmt::format("data.train: {}:1 has no field 'b', which {} names; its fields are: a (--missing skip leaves such rows out)",
                          path("rows.jsonl"), way));
  const DocumentSource neither{.ways = {.skips_missing = ""}};
  EXPECT_EQ(testing::message_of<InputError>([&] { texts(write("rows.jsonl", "{\"text\": null}\n"), neither); }),
            fmt::format("data.train: {}:1: field 'text' is null; a text is expected", path("rows.jsonl")));
  for (const char* name : kTableForms) {
    const DocumentSource titles{.text = "{title}", .skips_missing = true};
    const Strings found = texts(table_file(name), titles);
    ASSERT_EQ(found.size(), 40U);
    for (size_t i = 0; i < found.size(); ++i) EXPECT_EQ(found[i], i == 7 || i == 20 ? "(left out)" : fmt::format("Title {}", i)) << name;
    expect_error<InputError>([&] { texts(table_file(name), {.text = "{title}"}); }, {name, "8", "'title' is null"});
  }
}

TEST_F(TextTemplateTest, WhatIsNoTextIsNamed) {
  const std::string lines = "{\"a\": {\"b\": 1}, \"l\": [1], \"m\": [\"x\", null], \"n\": 5}\n";
  for (const char* field : {"a", "l", "m"})
    expect_error<InputError>([&] { of_lines(lines, fmt::format("{{{}}}", field)); },
                             {"rows.jsonl:1", fmt::format("'{}' is ", field), "string, number, boolean or list of strings"});
  // Without a template a text is a string.
  expect_error<InputError>([&] { texts(write("n.jsonl", lines), {.text_field = "n"}); },
                           {"n.jsonl:1", "'n' is number", "a string is expected"});
  expect_error<InputError>([&] { texts(write("n.jsonl", lines), {.text_field = "m"}); }, {"'m' is array"});
}

TEST_F(TextTemplateTest, MalformedTemplatesAreNamed) {
  const auto refused = [](const std::string& text, const std::string& part) {
    expect_error<InputError>([&] { TextTemplate({.key = "data.eval", .text = text}); }, {"data.eval", "'" + text + "'", part});
  };
  refused("{a", "no '}' closes");
  refused("{a {b}", "no '}' closes");
  refused("a} {b}", "closes nothing");
  refused("{}", "without a name");
  refused("{a}[[ {b}", "no ']]' closes");
  refused("{a}[[ {b} [[{c}]]]]", "inside another");
  refused("{a}[[ b ]]", "without a field");
  refused("text", "names no field");
  refused("{{text}}", "names no field");
}

TEST_F(TextTemplateTest, AFieldThatNoRowHasIsTold) {
  for (const auto& [text, told] : {std::pair{"{text}[[ {answer}]]", false}, {"{text}[[ {answre}]]", true}}) {
    DataOptions data = options({}, 1);
    data.sources = {{.paths = {table_file("zstd.parquet"), table_file("rows.jsonl")}, .text = text}};
    data.cache = path("cache");
    for (const bool is_second : {false, true}) {
      warnings_.clear();
      EXPECT_EQ(DataStream::open(data, *make_byte_tokenizer())->is_from_cache(), is_second);
      ASSERT_EQ(warnings_.size(), told ? 1U : 0U) << text;
      if (told) {
        EXPECT_SAYS(warnings_[0], "data.train: no row has a field 'answre'");
      }
    }
  }
}

// What a source asks of its files is what they can give.
TEST_F(TextTemplateTest, OnlyRowsHaveFields) {
  const auto refused = [&](const std::string& file, const DocumentSource& given, const std::string& part) {
    DataOptions data = options({}, 1);
    data.sources = {given};
    data.sources[0].paths = {file};
    expect_error<InputError>([&] { DataStream::open(data, *make_byte_tokenizer()); }, {file, part});
  };
  refused(write("a.txt", "text"), {.text = "{a}"}, "has no fields for the template '{a}'");
  refused(write_values<uint16_t>("a.bin", {1, 2, 3}), {.text = "{a}"}, "has no fields");
  refused(path("a.bin"), {.max_documents = 1}, "holds tokens");
}

}  // namespace
}  // namespace zerostep
