#include <string>
#include <vector>

#include "base/error.h"
#include "tests/runtime/support/data_stream_files.h"
#include "tests/support/expect_says.h"

// What the files of a stream may hold, and how is told what they may not.
namespace zerostep {
namespace {

TEST_F(DataStreamTest, JsonLinesAreDocuments) {
  DataOptions lines = options({write("x.jsonl",
                                     "{\"text\": \"one\\u00e9\\n\", \"title\": \"t1\", \"n\": 1}\n"
                                     "\n  \t\r\n"
                                     "{\"title\": \"t2\", \"text\": \"\"}\r\n"
                                     "{\"text\": \"\\ud83d\\ude00\", \"title\": \"\"}")},
                              1);
  EXPECT_EQ(all_tokens(*open_in_order(lines)), documents({"one\xC3\xA9\n", "", "\xF0\x9F\x98\x80"}));
  lines.sources[0].text_field = "title";
  lines.sources[0].join_fields = {"text", "title"};
  EXPECT_EQ(all_tokens(*open_in_order(lines)), documents({"t1\none\xC3\xA9\n\nt1", "t2\n\nt2", "\n\xF0\x9F\x98\x80\n"}));
}

TEST_F(DataStreamTest, MalformedLinesAreNamedByFileAndNumber) {
  const std::string good = "{\"text\": \"good\"}\n";
  const auto refused = [&](const std::string& line, const std::vector<std::string>& parts) {
    const std::string file = write("bad.jsonl", good + "\n" + good + line + "\n" + good);
    std::vector<std::string> all = {file + ":4"};
    all.insert(all.end(), parts.begin(), parts.end());
    expect_error<InputError>([&] { open(options({file})); }, all);
  };
  refused("{\"text\": \"no end", {"not valid JSON"});
  refused("not json", {"not valid JSON"});
  refused("{\"text\": \"a\"} {\"text\": \"b\"}", {"not valid JSON"});
  refused("{\"text\": \"\xFF\"}", {"byte 11 of the line, 0xFF", "not UTF-8"});
  refused("{\"text\": \"\\ud800\"}", {"not valid JSON"});
  refused("[\"text\"]", {"array"});
  refused("\"text\"", {"string"});
  refused("{\"Text\": \"a\", \"id\": 1}", {"no field 'text'", "Text, id"});
  refused("{\"text\": 5}", {"'text'", "number"});
  refused("{\"text\": null}", {"'text'", "null"});
  refused(std::string(100000, '['), {"nests objects or lists more than 512 deep"});
  DataOptions joined = options({write("fine.jsonl", good)});
  joined.sources[0].join_fields = {"title"};
  expect_error<InputError>([&] { open(joined); }, {"fine.jsonl:1", "title"});
}

// Whether they are made now or come from the cache.
TEST_F(DataStreamTest, RowsThatLackAFieldAreLeftOutAndCounted) {
  const std::string row = "{\"text\": \"a\", \"title\": \"b\"}\n";
  DataOptions lines = options(
      {write_old("x.jsonl", row + "{\"text\": \"c\"}\n" + row + "{\"text\": null, \"title\": \"d\"}\n{\"title\": \"e\"}\n" + row)}, 1);
  lines.sources[0].join_fields = {"title"};
  lines.cache = path("cache");
  expect_error<InputError>([&] { open(lines); }, {"x.jsonl:2", "no field 'title'", "data.join_fields", "data.missing"});
  lines.sources[0].skips_missing = true;
  lines.shuffle = false;
  for (const bool cached : {false, true}) {
    const auto stream = open(lines);
    EXPECT_EQ(stream->is_from_cache(), cached);
    EXPECT_EQ(stream->num_left_out(), 3);
    EXPECT_EQ(all_tokens(*stream), documents({"a\nb", "a\nb", "a\nb"}));
  }
  // A field of another type is no missing one, and a file of nothing but holes is no corpus.
  lines.sources[0].paths = {write("type.jsonl", row + "{\"text\": 5, \"title\": \"b\"}\n")};
  expect_error<InputError>([&] { open(lines); }, {"type.jsonl:2", "number"});
  lines.sources[0].paths = {write("holes.jsonl", "{\"text\": \"c\"}\n{\"text\": \"c\"}\n")};
  expect_error<InputError>([&] { open(lines); }, {"each of the 2 rows", "text, title"});
}

TEST_F(DataStreamTest, TextThatIsNoUtf8IsNamedWithItsPlace) {
  const std::string file = write("latin1.txt", "good line\nanother\nca\xE9 au lait\n");
  class Losing : public CountingTokenizer {
   public:
    StrayBytes stray_bytes() const override { return StrayBytes::Lost; }
  };
  DataOptions cached = options({write("before.txt", "text\n"), file});
  cached.cache = path("cache");
  // A later start, which finds the tokens in the cache, says it too; of the same content elsewhere it names the file that is there.
  for (int start = 0; start < 3; ++start) {
    if (start == 2) cached.sources[0].paths[1] = write("elsewhere.txt", "good line\nanother\nca\xE9 au lait\n");
    warnings_.clear();
    EXPECT_EQ(open(cached)->is_from_cache(), start > 0);
    ASSERT_EQ(warnings_.size(), 1U) << start;
    EXPECT_SAYS(warnings_[0], "data.train: " + cached.sources[0].paths[1] + ":3: byte 3 of the line, 0xE9");
    EXPECT_SAYS(warnings_[0], "kept");
  }
  expect_error<InputError>([&] { DataStream::open(options({file}), Losing()); }, {file + ":3: byte 3 of the line, 0xE9", "iconv"});
  const std::string mac = write("mac.jsonl", "{\"text\": \"a\"}\r{\"text\": \"b\"}\r");
  expect_error<InputError>([&] { open(options({mac})); }, {mac, "CR alone"});
}

TEST_F(DataStreamTest, WideTokensWithoutAHeaderAreNamed) {
  std::vector<uint32_t> wide;
  std::vector<uint16_t> narrow;
  for (uint32_t i = 0; i < 400; ++i) {
    wide.push_back(i * 7919 % 128000);
    narrow.push_back(static_cast<uint16_t>(i * 7919 % 60000));
  }
  DataOptions large = options({write_values("wide.bin", wide)});
  large.vocabulary_size = 128256;
  expect_error<InputError>([&] { open(large); }, {"wide.bin", "32-bit tokens", "20240801"});
  large.sources[0].paths = {write_values("narrow.bin", narrow)};
  EXPECT_EQ(all_tokens(*open_in_order(large)).at(395), 395 * 7919 % 60000);
}

// The first error in the order of the corpus is told, whatever thread met it first.
TEST_F(DataStreamTest, TheFirstOfManyErrorsIsTold) {
  std::string text;
  for (int i = 0; i < 60000; ++i)
    text += i >= 30000 && i % 1000 == 7 ? "bad\n" : "{\"text\": \"a line of some length, so that there are several parts of it\"}\n";
  const std::string file = write("x.jsonl", text);
  for (int threads : {1, 2, 5}) {
    DataOptions lines = options({file});
    lines.num_threads = threads;
    expect_error<InputError>([&] { open(lines); }, {file + ":30008 "});
  }
}

TEST_F(DataStreamTest, TokenFilesAndTextJoinInOrder) {
  write("a.txt", "ab");
  write_values<uint16_t>("b.bin", {1, 2, 3});
  write("c.jsonl", "{\"text\": \"cd\"}\n");
  write("d.txt", "e");
  write_values<uint16_t>("e.bin", {});
  write_values<uint16_t>("f.bin", {256});
  const auto stream = open_in_order(options({path("?.*")}, 1));
  EXPECT_EQ(all_tokens(*stream), (std::vector<int32_t>{'a', 'b', 256, 1, 2, 3, 'c', 'd', 256, 'e', 256, 256}));
  const auto wide = open_in_order(options({path("?.*")}, 11));
  EXPECT_EQ(wide->sample(0), all_tokens(*stream));
}

TEST_F(DataStreamTest, TokensOutsideTheVocabularyAreNamed) {
  std::vector<uint16_t> tokens(5000, 7);
  tokens[4321] = 300;
  tokens[4500] = 400;
  const std::string file = write_values("t.bin", tokens);
  expect_error<InputError>([&] { open(options({file})); }, {"data.train", file, "token 300", "position 4321", "257"});
  DataOptions large = options({file});
  large.vocabulary_size = 401;
  EXPECT_EQ(open(large)->num_tokens(), 5000);
  large.vocabulary_size = 400;
  expect_error<InputError>([&] { open(large); }, {"token 400", "position 4500"});
  DataOptions small = options({write("x.txt", "some text")});
  small.vocabulary_size = 256;
  expect_error<InputError>([&] { open(small); }, {"data.train", "257", "256", "model.vocab_size"});
  // A .bin file needs no tokenizer.
  small.sources[0].paths = {write_values<uint16_t>("few.bin", {1, 2, 3, 4, 5, 6})};
  EXPECT_EQ(open(small)->num_tokens(), 6);
}

TEST_F(DataStreamTest, LargeTokensKeepTheirValue) {
  const CountingTokenizer wide("wide", 70000);
  DataOptions text = options({write("x.txt", "abc")}, 3);
  text.vocabulary_size = 70257;
  for (const char* cache : {"", "cache"}) {
    text.cache = *cache ? path(cache) : "";
    EXPECT_EQ(DataStream::open(text, wide)->sample(0), (std::vector<int32_t>{70097, 70098, 70099, 70256}));
  }
}

TEST_F(DataStreamTest, TooLittleTextIsAnError) {
  const auto refused = [&](const std::vector<std::string>& paths, int64_t length, const std::vector<std::string>& parts) {
    expect_error<InputError>([&] { open(options(paths, length)); }, parts);
  };
  refused({write("empty.txt", "")}, 1, {"data.train", "empty.txt", "is empty"});
  refused({write("empty.txt", ""), write("empty2.txt", "")}, 1, {"empty.txt", "1 more", "is empty"});
  refused({write("empty.jsonl", "\n\n \n")}, 1, {"empty.jsonl", "is empty"});
  refused({write("blank.jsonl", "{\"text\": \"\"}\n{\"text\": \"\"}\n")}, 1, {"blank.jsonl", "is empty"});
  refused({write("empty.bin", "")}, 1, {"empty.bin", "is empty"});
  refused({write("short.txt", "abcd")}, 5, {"short.txt", "5 tokens", "6", "at most 4"});
  EXPECT_EQ(open(options({write("short.txt", "abcd")}, 4))->num_samples(), 1);
}

}  // namespace
}  // namespace zerostep
