#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <sstream>
#include <thread>

#include "runtime/data/table_writer.h"
#include "tests/runtime/support/data_test_files.h"
#include "tests/runtime/support/table_files.h"

namespace zerostep {
namespace {

class DataCache : public DataTest {
 protected:
  DataOptions cached(const std::vector<std::string>& paths) const {
    DataOptions with_cache = options(paths, 1);
    with_cache.cache = path("cache/of/tokens");
    with_cache.shuffle = false;
    return with_cache;
  }
  std::vector<std::string> files_ending(const std::string& ending) const {
    std::vector<std::string> found;
    for (const auto& entry : std::filesystem::directory_iterator(path("cache/of/tokens"))) {
      if (entry.path().string().ends_with(ending)) found.push_back(entry.path().string());
    }
    return found;
  }
  // Opens, expecting these tokens, and whether anything had to be tokenized.
  void expect_open(const DataOptions& given, const std::vector<int32_t>& tokens, bool is_from_cache) {
    const int64_t before = tokenizer_.bytes;
    const auto stream = DataStream::open(given, tokenizer_);
    EXPECT_EQ(all_tokens(*stream), tokens);
    EXPECT_EQ(stream->is_from_cache(), is_from_cache);
    EXPECT_EQ(tokenizer_.bytes == before, is_from_cache);
  }
  // The tokens of a source that is read anew.
  std::vector<int32_t> made_of(const DocumentSource& source) const {
    DataOptions without_cache = options({}, 1);
    without_cache.sources = {source};
    without_cache.shuffle = false;
    return all_tokens(*DataStream::open(without_cache, CountingTokenizer()));
  }
  // A file or folder of tests/runtime/tables under another name, as if written an hour ago.
  std::string copy_old(const std::string& table, const std::string& name) const {
    std::filesystem::copy(table_file(table), path(name), std::filesystem::copy_options::recursive);
    if (std::filesystem::is_regular_file(path(name))) age(path(name));
    for (const std::string& file : files_below(path(name))) age(file);
    return path(name);
  }
  static std::vector<std::string> files_below(const std::string& folder) {
    std::vector<std::string> found;
    if (!std::filesystem::is_directory(folder)) return found;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(folder))
      if (entry.is_regular_file()) found.push_back(entry.path().string());
    return found;
  }
  static std::string content_of(const std::string& file) {
    std::stringstream content;
    content << std::ifstream(file, std::ios::binary).rdbuf();
    return content.str();
  }
  // Zeros in the place of a file's bytes, with its former stamp: whoever reads it finds that it is damaged.
  static void blank(const std::string& file) {
    const auto written = std::filesystem::last_write_time(file);
    const std::string zeros(std::filesystem::file_size(file), '\0');
    std::fstream(file, std::ios::in | std::ios::out | std::ios::binary).write(zeros.data(), std::ssize(zeros));
    std::filesystem::last_write_time(file, written);
  }
  CountingTokenizer tokenizer_;
};

TEST_F(DataCache, TheSecondStartTokenizesNothing) {
  for (const bool old : {true, false}) {
    const std::string text = old ? "old text" : "young text";
    const auto given = cached({old ? write_old("old.txt", text) : write("young.txt", text)});
    expect_open(given, documents({text}), false);
    expect_open(given, documents({text}), true);
    expect_open(given, documents({text}), true);
  }
  EXPECT_TRUE(warnings_.empty());
  EXPECT_EQ(files_ending(".tokens").size(), 2U);
  EXPECT_EQ(files_ending(".index").size(), 1U);
  EXPECT_TRUE(files_ending(".tmp").empty());
}

TEST_F(DataCache, ContentDecidesNotPathOrTime) {
  expect_open(cached({write_old("a.txt", "text")}), documents({"text"}), false);
  expect_open(cached({write("other/b.txt", "text")}), documents({"text"}), true);
  std::filesystem::last_write_time(path("a.txt"), std::filesystem::file_time_type::clock::now());
  expect_open(cached({path("a.txt")}), documents({"text"}), true);
  expect_open(cached({write_old("a.txt", "tent")}), documents({"tent"}), false);  // as long as before
  expect_open(cached({write_old("a.txt", "text")}), documents({"text"}), true);
  expect_open(cached({path("a.txt"), path("other/b.txt")}), documents({"text", "text"}), false);
  expect_open(cached({write("a.jsonl", "{\"text\": \"x\"}")}), documents({"x"}), false);
}

// A file of the same length that is changed in place within the clock's tick keeps its stamp.
TEST_F(DataCache, AYoungFileIsLookedAtAgain) {
  const std::string file = write("a.txt", "text");
  struct stat before = {};
  ASSERT_EQ(stat(file.c_str(), &before), 0);
  expect_open(cached({file}), documents({"text"}), false);
  write("a.txt", "tent");
  const timespec times[2] = {before.st_atim, before.st_mtim};
  ASSERT_EQ(utimensat(AT_FDCWD, file.c_str(), times, 0), 0);
  expect_open(cached({file}), documents({"tent"}), false);
}

TEST_F(DataCache, AnOldFileIsKnownByItsStampWithoutReadingIt) {
  const std::string file = write_old("a.txt", "text");
  struct stat before = {};
  ASSERT_EQ(stat(file.c_str(), &before), 0);
  expect_open(cached({file}), documents({"text"}), false);
  write("a.txt", "tent");  // what no honest program does: the time set back after a change
  const timespec times[2] = {before.st_atim, before.st_mtim};
  ASSERT_EQ(utimensat(AT_FDCWD, file.c_str(), times, 0), 0);
  expect_open(cached({file}), documents({"text"}), true);
}

// The second start reads no byte of a table, whatever its kind; one of another content is read, and its tokens are its own.
TEST_F(DataCache, TheSecondStartReadsNoFileOfAnyKind) {
  for (const char* form : kTableForms) {
    const std::string file = copy_old(form, form), ending = std::filesystem::path(form).extension().string();
    DataOptions given = cached({file});
    given.cache = path(std::string("cache of ") + form);
    const std::vector<int32_t> tokens = made_of({.paths = {file}});
    expect_open(given, tokens, false);
    blank(file);
    expect_open(given, tokens, true);
    // Others: rows of our own, five rows of the same, or the same rows twice, as members of a compressed file may follow each other.
    if (ending == ".parquet") {
      const auto writer = write_parquet(file, {"text"}, "test");
      for (const std::string& text : {std::string("others"), std::string(form)}) writer->append({text});
      writer->close();
    } else {
      const std::string again = content_of(table_file(form));
      write(form, ending == ".arrow" ? content_of(table_file("both/train/data-00000-of-00001.arrow")) : again + again);
    }
    age(file);
    const std::vector<int32_t> others = made_of({.paths = {file}});
    EXPECT_NE(others, tokens) << form;
    expect_open(given, others, false);
    blank(file);
    expect_open(given, others, true);
  }
  EXPECT_TRUE(warnings_.empty());
}

// Of a folder of save_to_disk only what says which files it has, and in which order, is read again.
TEST_F(DataCache, TheSecondStartReadsNoRowsOfASavedFolder) {
  const std::string folder = copy_old("saved", "saved"), first = "data-00000-of-00002.arrow", second = "data-00001-of-00002.arrow";
  const auto given = cached({folder});
  const auto say_files = [&](const std::vector<std::string>& names) {
    std::string list;
    for (const std::string& name : names) list += (list.empty() ? "" : ", ") + ("{\"filename\": \"" + name + "\"}");
    write_old("saved/state.json", "{\"_data_files\": [" + list + "]}");
  };
  const std::vector<int32_t> tokens = made_of({.paths = {table_file("rows.jsonl")}}), of_first = made_of({.paths = {folder + "/" + first}}),
                             of_second = made_of({.paths = {folder + "/" + second}});
  const auto joined = [](std::vector<int32_t> front, const std::vector<int32_t>& back) {
    front.insert(front.end(), back.begin(), back.end());
    return front;
  };
  EXPECT_EQ(joined(of_first, of_second), tokens);
  expect_open(given, tokens, false);
  say_files({second, first});
  expect_open(given, joined(of_second, of_first), false);
  say_files({second});
  expect_open(given, of_second, false);
  for (const std::string& name : {first, second}) blank(folder + "/" + name);
  expect_open(given, of_second, true);
  say_files({second, first});
  expect_open(given, joined(of_second, of_first), true);
  say_files({first, second});
  expect_open(given, tokens, true);
  // A file of the same name and another content.
  std::filesystem::copy_file(table_file("both/train/data-00000-of-00001.arrow"), folder + "/" + second,
                             std::filesystem::copy_options::overwrite_existing);
  say_files({second});
  expect_open(given, made_of({.paths = {table_file("rows.jsonl")}, .max_documents = 5}), false);
  // Each split of several has its own tokens.
  DataOptions of_split = cached({copy_old("both", "both")});
  for (const bool is_from_cache : {false, true}) {
    of_split.sources[0].split = "train";
    expect_open(of_split, made_of({.paths = {table_file("rows.jsonl")}, .max_documents = 5}), true);
    of_split.sources[0].split = "validation";
    expect_open(of_split, tokens, is_from_cache);
    for (const std::string& file : files_below(path("both")))
      if (file.ends_with(".arrow")) blank(file);
  }
  EXPECT_TRUE(warnings_.empty());
}

// With a cache and without; what is there already is opened without asking.
TEST_F(DataCache, WhoeverAsksHearsOfFilesBeforeTheyAreRead) {
  DataOptions given = cached({write_old("a.txt", "text"), write_old("b.txt", "more")});
  int64_t heard = 0;
  given.before_reading = [&](int64_t num_bytes) {
    heard += num_bytes;
    throw 7;
  };
  EXPECT_THROW(DataStream::open(given, tokenizer_), int);
  EXPECT_EQ(heard, 8);
  DataOptions without = given;
  without.cache.clear();
  EXPECT_THROW(DataStream::open(without, tokenizer_), int);
  EXPECT_EQ(heard, 16);
  EXPECT_EQ(tokenizer_.bytes, 0);
  EXPECT_TRUE(files_ending(".tokens").empty());
  expect_open(cached({path("a.txt"), path("b.txt")}), documents({"text", "more"}), false);
  expect_open(given, documents({"text", "more"}), true);
  EXPECT_EQ(heard, 16);
}

TEST_F(DataCache, TokenizerAndFieldsArePartOfTheKey) {
  const std::string lines = write_old("a.jsonl", "{\"text\": \"x\", \"title\": \"y\"}\n");
  DataOptions given = cached({lines});
  expect_open(given, documents({"x"}), false);
  const CountingTokenizer other("another fingerprint");
  EXPECT_FALSE(DataStream::open(given, other)->is_from_cache());
  given.sources[0].text_field = "title";
  expect_open(given, documents({"y"}), false);
  given.sources[0].join_fields = {"text"};
  expect_open(given, documents({"y\nx"}), false);
  // What does not change the tokens does not change the key.
  given.sequence_length = 2;
  given.max_samples = 1;
  given.seed = 9;
  EXPECT_TRUE(DataStream::open(given, tokenizer_)->is_from_cache());
  DataOptions text = cached({write_old("a.txt", "text")});
  expect_open(text, documents({"text"}), false);
  text.sources[0].text_field = "title";
  expect_open(text, documents({"text"}), true);
}

TEST_F(DataCache, DamagedFilesAreMadeAnewWithAWarning) {
  const auto given = cached({write_old("a.txt", "some text")});
  expect_open(given, documents({"some text"}), false);
  const std::string cache = files_ending(".tokens").at(0);
  const std::string good = content_of(cache);
  std::vector<std::string> bad = {
      "", "x", good.substr(0, 63), good.substr(0, 64), good.substr(0, good.size() - 1), good + "x", std::string(good.size(), '\0')};
  for (size_t byte = 0; byte < good.size(); ++byte) {  // of the header, and of the tokens behind it
    bad.push_back(good);
    bad.back()[byte] = static_cast<char>(bad.back()[byte] ^ 0x10);
  }
  for (const std::string& damaged : bad) {
    std::ofstream(cache, std::ios::binary | std::ios::trunc) << damaged;
    warnings_.clear();
    expect_open(given, documents({"some text"}), false);
    ASSERT_EQ(warnings_.size(), 1U);
    EXPECT_NE(warnings_[0].find(cache), std::string::npos) << warnings_[0];
    EXPECT_NE(warnings_[0].find("made anew"), std::string::npos) << warnings_[0];
    expect_open(given, documents({"some text"}), true);
  }
}

TEST_F(DataCache, AnotherCorpusUnderTheNameIsNotTaken) {
  const auto first = cached({write_old("a.txt", "some text")}), second = cached({write_old("b.txt", "same size")});
  expect_open(first, documents({"some text"}), false);
  const std::string cache_of_first = files_ending(".tokens").at(0);
  expect_open(second, documents({"same size"}), false);
  for (const std::string& cache : files_ending(".tokens")) {
    if (cache != cache_of_first) std::filesystem::copy_file(cache_of_first, cache, std::filesystem::copy_options::overwrite_existing);
  }
  expect_open(second, documents({"same size"}), false);
  ASSERT_EQ(warnings_.size(), 1U);
  EXPECT_NE(warnings_[0].find("another corpus"), std::string::npos);
}

TEST_F(DataCache, ADamagedIndexIsIgnored) {
  const auto given = cached({write_old("a.txt", "some text")});
  expect_open(given, documents({"some text"}), false);
  const std::string index = files_ending(".index").at(0);
  for (const char* text : {"", "x", "0123456789abcdef0123456789abcdef zerostep-index-1\n"}) {
    std::ofstream(index, std::ios::trunc) << text;
    expect_open(given, documents({"some text"}), true);
  }
}

TEST_F(DataCache, WhatAKilledProcessLeavesIsNoObstacle) {
  const auto given = cached({write_old("a.txt", "some text")});
  expect_open(given, documents({"some text"}), false);
  const std::string cache = files_ending(".tokens").at(0);
  const std::string temporary = cache.substr(0, cache.size() - 7) + ".tmp";
  std::filesystem::rename(cache, temporary);
  std::filesystem::resize_file(temporary, 1 << 20);
  expect_open(given, documents({"some text"}), false);
  EXPECT_TRUE(files_ending(".tmp").empty());
  EXPECT_TRUE(warnings_.empty());
}

TEST_F(DataCache, OneTokenizesAndTheOthersWait) {
  const std::string text(3 << 20, 'x');
  tokenizer_.on_encode = [] { std::this_thread::sleep_for(std::chrono::milliseconds(30)); };
  for (const bool old : {true, false}) {
    const auto given = cached({old ? write_old("old.txt", text) : write("young.txt", text + "y")});
    const int64_t before = tokenizer_.bytes;
    std::atomic<int> made = 0;
    {
      std::vector<std::jthread> ranks;
      for (int rank = 0; rank < 6; ++rank) {
        ranks.emplace_back([&] {
          const auto stream = DataStream::open(given, tokenizer_);
          made += !stream->is_from_cache();
          EXPECT_EQ(stream->num_tokens(), static_cast<int64_t>(text.size()) + (old ? 1 : 2));
        });
      }
    }
    EXPECT_EQ(made, 1);
    EXPECT_EQ(tokenizer_.bytes - before, static_cast<int64_t>(text.size()) + !old);
  }
}

TEST_F(DataCache, FoldersThatCannotBeWrittenAreNamed) {
  DataOptions given = cached({write("a.txt", "some text")});
  for (const std::string& folder : {write("file", "x"), path("file/below"), std::string("/proc/zerostep_cache")}) {
    given.cache = folder;
    expect_error<InputError>([&] { DataStream::open(given, tokenizer_); }, {folder, "data.cache"});
  }
}

// A limit on the size of files stands for a full disk.
TEST_F(DataCache, AFullDiskIsAnErrorThatLeavesNothing) {
  DataOptions given = cached({write_old("a.txt", std::string(1 << 20, 'x'))});
  rlimit before = {};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  rlimit small = before;
  small.rlim_cur = 1 << 19;
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
  expect_error<RunError>([&] { DataStream::open(given, tokenizer_); }, {path("cache/of/tokens"), "space", "data.cache"});
  setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, handler);
  EXPECT_TRUE(files_ending(".tokens").empty());
  EXPECT_TRUE(files_ending(".tmp").empty());
  EXPECT_FALSE(DataStream::open(given, tokenizer_)->is_from_cache());
}

TEST_F(DataCache, AFileThatChangesWhileItIsReadIsAnError) {
  const std::string file = write_old("a.txt", "some text");
  tokenizer_.on_encode = [&] { write("a.txt", "some other text"); };
  expect_error<RunError>([&] { DataStream::open(cached({file}), tokenizer_); }, {"data.train", file, "changed"});
  EXPECT_TRUE(files_ending(".tokens").empty());
  tokenizer_.on_encode = nullptr;
  expect_open(cached({file}), documents({"some other text"}), false);
}

TEST_F(DataCache, AnErrorInTheTextLeavesNothing) {
  const std::string file = write_old("a.jsonl", "{\"text\": \"good\"}\nbad\n");
  for (int i = 0; i < 2; ++i) expect_error<InputError>([&] { DataStream::open(cached({file}), tokenizer_); }, {file + ":2"});
  EXPECT_TRUE(files_ending(".tokens").empty());
  EXPECT_TRUE(files_ending(".tmp").empty());
}

TEST_F(DataCache, TheLargestTokenOfATokenFileIsRemembered) {
  std::vector<uint16_t> tokens(1000, 5);
  const std::string file = write_values("t.bin", tokens);
  age(file);
  const auto given = cached({file});
  EXPECT_TRUE(DataStream::open(given, tokenizer_)->is_from_cache());
  ASSERT_EQ(files_ending(".index").size(), 1U);
  DataOptions small = given;
  small.vocabulary_size = 5;
  expect_error<InputError>([&] { DataStream::open(small, tokenizer_); }, {file, "token 5", "position 0"});
  tokens[10] = 1000;
  write_values("t.bin", tokens);
  expect_error<InputError>([&] { DataStream::open(given, tokenizer_); }, {"token 1000", "position 10"});
}

// Bytes of tokens changed behind a running program's back must not reach the model.
TEST_F(DataCache, ATokenOutsideTheVocabularyInADamagedCacheIsAnError) {
  const auto given = cached({write_old("a.txt", "some text")});
  const auto stream = DataStream::open(given, tokenizer_);
  const std::string cache = files_ending(".tokens").at(0);
  std::fstream(cache, std::ios::in | std::ios::out | std::ios::binary).seekp(64) << "\xFF\xFF";
  expect_error<RunError>([&] { stream->sample(0); }, {cache, "65535", "257"});
  EXPECT_THROW(stream->batch(0, 0, {1, 1, 0, 1}), RunError);
}

}  // namespace
}  // namespace zerostep
