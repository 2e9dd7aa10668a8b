#include "models/text_file.h"

#include <gtest/gtest.h>

#include <fstream>

#include "base/error.h"
#include "base/mapped_file.h"
#include "models/json_file.h"
#include "tests/support/scratch_folder.h"

namespace zerostep {
namespace {

template <typename Action>
std::string refusal_of(const Action& action) {
  try {
    action();
  } catch (const InputError& error) {
    return error.what();
  }
  return "";
}

TEST(TextFile, TheFirstByteThatIsNoTextIsFound) {
  EXPECT_EQ(first_ill_formed_byte("caf\xC3\xA9 \xF0\x9F\x98\x80"), std::string_view::npos);
  EXPECT_EQ(first_ill_formed_byte("caf\xE9 x"), 3U);
  EXPECT_EQ(first_ill_formed_byte("a\xC3"), 1U) << "cut short";
  EXPECT_EQ(first_ill_formed_byte("\xED\xA0\x80"), 0U) << "a surrogate";
  EXPECT_EQ(first_ill_formed_byte("\xC0\xAF"), 0U) << "an overlong form";
}

TEST(TextFile, MessagesNameFileLineAndByte) {
  EXPECT_EQ(refusal_of([] { require_utf8("data.train: ", "a.tsv", "one\ntwo\nca\xE9\n"); }),
            "data.train: a.tsv:3: byte 3 of the line, 0xE9, is not UTF-8: convert the file to UTF-8 (from Latin-1: `iconv -f latin1 -t "
            "utf-8`)");
  EXPECT_EQ(refusal_of([] { require_utf8("", "a.txt", "\xFF\xFE\x61"); }),
            "a.txt: is UTF-16, and UTF-8 is expected: convert it (`iconv -f utf-16 -t utf-8`)");
  EXPECT_EQ(refusal_of([] { require_utf8("", "a.txt", std::string_view("a\nb\0c", 5)); }),
            "a.txt:2: byte 2 of the line, 0x00, is no text: convert the file to UTF-8 (is it UTF-16?)");
  EXPECT_EQ(refusal_of([] { require_utf8("", "a.txt", "plain\xC3\xA9"); }), "");
}

TEST(TextFile, LinesThatEndWithCrAloneAreRefused) {
  EXPECT_NE(refusal_of([] { require_lines("", "a.tsv", "a\rb\r"); }).find("a.tsv: its lines end with CR alone"), std::string::npos);
  for (const char* fine : {"", "a", "a\r", "a\r\nb\r\n", "a\nb\rc\n"})
    EXPECT_EQ(refusal_of([&] { require_lines("", "a.tsv", fine); }), "") << fine;
}

class Files : public testing::Test {
 protected:
  std::string write(const std::string& name, const std::string& text) const {
    std::ofstream(folder_.path(name), std::ios::binary) << text;
    return folder_.path(name);
  }
  ScratchFolder folder_;
};

TEST_F(Files, JsonThatIsNoneIsNamedWithLineAndColumn) {
  const std::string stray = write("config.json", "{\n \"a\": 1\n}\n}\n");
  EXPECT_NE(refusal_of([&] { parse_json_file(stray); }).find(stray + ":4:1: not valid JSON: "), std::string::npos)
      << refusal_of([&] { parse_json_file(stray); });
  const std::string comma = write("comma.json", "{\"a\": 1\n  \"b\": 2}");
  EXPECT_NE(refusal_of([&] { parse_json_file(comma); }).find(comma + ":2:5: not valid JSON: "), std::string::npos)
      << refusal_of([&] { parse_json_file(comma); });
  const std::string latin1 = write("latin1.json", "{\n\"name\": \"caf\xE9\"}");
  const std::string said = refusal_of([&] { parse_json_file(latin1); });
  EXPECT_NE(said.find(latin1 + ":2:"), std::string::npos) << said;
  EXPECT_NE(said.find("UTF-8"), std::string::npos) << said;
  EXPECT_EQ(first_ill_formed_byte(said), std::string_view::npos) << "a message is text";
  EXPECT_NE(refusal_of([&] { parse_json_file(write("empty.json", "")); }).find("empty.json:1:1"), std::string::npos);
  EXPECT_NE(refusal_of([&] { read_json_object(write("list.json", "[1]")); }).find("is array and not a JSON object"), std::string::npos);
  EXPECT_EQ(read_json_object(write("good.json", "{\"a\": 3}"))["a"], 3);
}

TEST_F(Files, APointerOfGitLfsIsNamedAsSuch) {
  const std::string pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 548105171\n";
  for (const char* name : {"model.safetensors", "tokenizer.json", "train.bin", "train.txt"}) {
    const std::string said = refusal_of([&] { MappedFile file(write(name, pointer)); });
    EXPECT_NE(said.find(name), std::string::npos) << said;
    EXPECT_NE(said.find("pointer of Git LFS"), std::string::npos) << said;
    EXPECT_NE(said.find("git lfs pull"), std::string::npos) << said;
  }
  EXPECT_EQ(refusal_of([&] { MappedFile file(write("about.txt", "version https://git-lfs.github.com/spec/" + std::string(2000, 'x'))); }),
            "")
      << "a text about it is none";
}

}  // namespace
}  // namespace zerostep
