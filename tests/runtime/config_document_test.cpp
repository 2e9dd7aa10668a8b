#include <gtest/gtest.h>

#include <random>

#include "runtime/config/document.h"
#include "tests/runtime/support/config_file.h"

namespace zerostep {
namespace {

using schema::Document;
using schema::parse_document;
using schema::shown;

TEST(ConfigDocument, CommentsAndTrailingCommas) {
  const Document d = parse_document(
      "// first\n{ /* a */ \"a\": [1, 2, /* b */ ], // \"x\": 1,\n \"b//c\": \"/* no comment, ] */\", \"c\": {\"d\": 1,},\n}\n// last",
      "f");
  EXPECT_EQ(d.root, nlohmann::json::parse(R"({"a": [1, 2], "b//c": "/* no comment, ] */", "c": {"d": 1}})"));
  EXPECT_EQ(d.place("a"), "f, line 2");
  EXPECT_EQ(d.place("c.d"), "f, line 3");
  EXPECT_EQ(d.place("c.e"), "f, line 3");
  EXPECT_EQ(d.place("zz"), "f");
}

TEST(ConfigDocument, HostileTextsAreOneClearError) {
  struct Case {
    std::string text;
    std::vector<std::string> words;
  };
  const std::string deep(100, '['), objects = [] {
    std::string s;
    for (int i = 0; i < 70; ++i) s += "{\"a\":";
    return s;
  }();
  for (const Case& c : std::vector<Case>{
           {"", {"is empty"}},
           {" \n\t", {"holds no JSON"}},
           {"// only a comment", {"holds no JSON"}},
           {"[1]", {"[1]", "one JSON object"}},
           {"3", {"one JSON object"}},
           {"{\"a\": 1", {"line 1", "'{' of line 1 is still open", "truncated"}},
           {"{\n\"a\": \"b", {"line 2", "ends inside this string"}},
           {"{\n\"a\": \"b\n\"}", {"line 2", "no end on its line"}},
           {"{\"a\": 1}}", {"closes nothing"}},
           {"{\"a\": [1}", {"does not close the '['"}},
           {"{\"a\": 1} x", {"line 1, column 10", "x is no JSON value"}},
           {"{\"a\": 1} {}", {"line 1"}},
           {"{\"a\" 1}", {"line 1", "not JSON"}},
           {"{\"a\": }", {"not JSON"}},
           {"{\"a\": 1, , }", {"not JSON"}},
           {"{,}", {"not JSON"}},
           {"{\"a\": [,]}", {"not JSON"}},
           {"{\"a\": [1,,]}", {"not JSON"}},
           {"{a: 1}", {"a is no JSON value", "quotation marks"}},
           {"{'a': 1}", {"line 1, column 3", "quotation marks"}},
           {"{\"a\": NaN}", {"NaN", "finite number"}},
           {"{\"a\": -Infinity}", {"-Infinity", "finite number"}},
           {"{\"a\": True}", {"line 1, column 7", "True is no JSON value: JSON writes true"}},
           {"{\"a\": None}", {"JSON writes null"}},
           {"{\"a\": 1e400}", {"1e400", "beyond the range"}},
           {"{\"a\": -1e400}", {"beyond the range"}},
           {"{\"a\": 01}", {"not JSON"}},
           {"{\"a\": 0x10}", {"0x10"}},
           {"{\"a\": 1.}", {"not JSON"}},
           {"{\"a\": \"\\q\"}", {"not JSON"}},
           {"{\"a\": \"\\ud800\"}", {"not JSON"}},
           {"{\"a\": \"\\u0000\"}", {"NUL"}},
           {"{\"a\": \"\x01\"}", {"not JSON"}},
           {"{\"a\": 1, \"b\": {\"c\": 1,\n \"c\": 2}}", {"line 2", "b.c stands twice", "first in line 1"}},
           {"{\"a\": 1, \"\\u0061\": 2}", {"a stands twice"}},
           {"{\"a\": \"\xff\"}", {"line 1, column 8", "0xff", "UTF-8"}},
           {"{\"a\": 1} // \xc3(", {"UTF-8"}},
           {"{\"a\": \"\xed\xa0\x80\"}", {"UTF-8"}},
           {"{\"a\": \"\xc0\x80\"}", {"UTF-8"}},
           {"\xef\xbb\xbf{}", {"byte-order mark"}},
           {std::string("\xff\xfe{\0}\0", 6), {"UTF-16"}},
           {"{\"a\": 1 /* ", {"comment has no end"}},
           {"{\"a\": 1} / 2", {"not JSON"}},
           {"{\"a\": \xc3\xa4}", {"line 1, column 7", "\xc3\xa4 stands outside a string"}},
           {"{\"a\": \"\\\xc3\xa4\"}", {"not JSON"}},
           {deep, {"more than 64 levels"}},
           {objects, {"more than 64 levels"}},
           {std::string("{\"a\0b\": 1}", 10), {"not JSON"}},
           {"{\"\\u001b[2J\": 1}", {"control character"}},
           {"{\"" + std::string(300, 'k') + "\": 1}", {"300 bytes"}},
           {std::string((1 << 20) + 1, ' '), {"larger than"}},
       }) {
    expect_words(refusal_of(c.text), c.words);
  }
}

TEST(ConfigDocument, HugeFlatFilesEndSoon) {
  std::string text = "{";
  for (int i = 0; i < 60000; ++i) text += "\"k" + std::to_string(i) + "\":\n1,";
  expect_words(refusal_of(text + "}"), {"more than 10000 keys"});
  text = "{";
  for (int i = 0; i < 9000; ++i) text += "\"unknown" + std::to_string(i) + "\": 1,";
  expect_words(refusal_of(text + "}"), {"And 8992 more of the kind"});
}

TEST(ConfigDocument, FilesThatCannotBeRead) {
  const auto refusal = [](const std::string& path) -> std::string {
    try {
      load_config({.file = path, .set = {}, .world = 1});
    } catch (const InputError& error) {
      return error.what();
    }
    return "";
  };
  expect_words(refusal("/nowhere/at_all.json"), {"/nowhere/at_all.json", "does not exist"});
  expect_words(refusal("/tmp"), {"/tmp", "directory"});
  expect_words(refusal("/dev/zero"), {"/dev/zero", "larger than"});
  expect_words(refusal("/dev/null"), {"/dev/null", "empty"});
}

TEST(ConfigDocument, ValuesInMessagesAreShortAndWhole) {
  EXPECT_EQ(shown("abc"), "\"abc\"");
  const std::string euros = shown(std::string(200, 'x') + "\xe2\x82\xac");
  EXPECT_EQ(euros.size(), 63u);
  std::string text;
  for (int i = 0; i < 60; ++i) text += "\xe2\x82\xac";
  EXPECT_EQ(shown(text).size(), 1 + 19 * 3 + 3u);  // 60 bytes hold the quotation mark and 19 whole characters
}

// Any mutation of a valid file either loads or is one InputError; nothing else escapes, nothing hangs.
TEST(ConfigDocument, MutatedFilesNeverCrash) {
  std::mt19937 rng(5);
  const std::string sound = tiny_config().dump(1);
  const std::vector<std::string> values = {
      "-1",   "null", "1e400",    "\"\"",          "[]",   "{}",  "true", "\"x\"", "99999999999999999999", "0.5",
      "[1,2", "NaN",  "\"auto\"", "\"../../etc\"", "1e18", "-0.0"};
  const auto below = [&](size_t n) { return std::uniform_int_distribution<size_t>(0, n - 1)(rng); };
  size_t loaded = 0, refused = 0;
  for (int i = 0; i < 3000; ++i) {
    std::string text = sound;
    for (size_t times = 1 + below(2); times > 0; --times) {
      switch (below(6)) {
        case 0: {  // a number becomes something else
          size_t at = below(text.size());
          while (at < text.size() && !isdigit(static_cast<unsigned char>(text[at]))) ++at;
          size_t end = at;
          while (end < text.size() && (isalnum(static_cast<unsigned char>(text[end])) || text[end] == '.' || text[end] == '-')) ++end;
          text.replace(std::min(at, text.size()), end - at, values[below(values.size())]);
          break;
        }
        case 1:
          text.resize(below(text.size()) + 1);
          break;
        case 2:
          text[below(text.size())] = static_cast<char>(below(256));
          break;
        case 3: {  // a stretch stands twice
          const size_t at = below(text.size());
          text.insert(at, text.substr(at, below(60)));
          break;
        }
        case 4:
          text.erase(below(text.size()), below(30));
          break;
        default:
          text.insert(below(text.size()), values[below(values.size())]);
          break;
      }
      if (text.empty()) text = "{";
    }
    try {
      load_text(text);
      ++loaded;
    } catch (const InputError& error) {
      EXPECT_GT(std::string(error.what()).size(), 20u);
      EXPECT_NO_THROW(nlohmann::json(error.what()).dump()) << "the message is not UTF-8";
      ++refused;
    }
  }
  EXPECT_GT(loaded, 50u);
  EXPECT_GT(refused, 1000u);
}

}  // namespace
}  // namespace zerostep
