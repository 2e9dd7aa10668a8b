#include "experiments/datasets/merge.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "base/error.h"
#include "experiments/datasets/documents.h"
#include "experiments/datasets/homogeneity.h"
#include "experiments/datasets/shuffled_rows.h"
#include "tests/support/expect_says.h"
#include "tests/support/message_of.h"
#include "tests/support/scratch_folder.h"

namespace zerostep {
namespace {

using Json = nlohmann::ordered_json;
using testing::message_of;

constexpr int64_t kAllInMemory = int64_t{1} << 30;

std::string content_of(const std::string& file) {
  std::stringstream content;
  content << std::ifstream(file, std::ios::binary).rdbuf();
  return content.str();
}

// The order of rows that say their number, each of `row_bytes` and of source number % 3.
std::vector<int64_t> order_of(ShuffledRows::Options options, int64_t num_rows, size_t row_bytes = 8) {
  ShuffledRows rows(std::move(options));
  for (int64_t i = 0; i < num_rows; ++i) {
    std::string text = std::to_string(i);
    text.resize(row_bytes);
    rows.add({std::move(text), static_cast<uint32_t>(i % 3)});
  }
  std::vector<int64_t> order;
  rows.for_each([&](const MergedRow& row) {
    EXPECT_EQ(row.text.size(), row_bytes);
    order.push_back(std::stoll(row.text));
    EXPECT_EQ(row.source, order.back() % 3);
  });
  return order;
}

bool is_each_once(std::vector<int64_t> order, int64_t num_rows) {
  std::sort(order.begin(), order.end());
  for (int64_t i = 0; i < std::ssize(order); ++i)
    if (order[static_cast<size_t>(i)] != i) return false;
  return std::ssize(order) == num_rows;
}

// Four rows have 24 orders, each of which one seed in 24 gives. The tail of chi-square is that of a uniform choice: one in ten thousand of
// such tests is below 1e-4, and these seeds stay the same. With a memory of a byte rows that come together are dealt out again, thrice.
TEST(ShuffledRows, EveryOrderOfAFewRowsIsAsLikely) {
  const ScratchFolder folder;
  for (const auto& [memory, expected] : {std::pair(kAllInMemory, 50), {int64_t{1}, 15}}) {
    std::map<std::vector<int64_t>, double> counts;
    for (uint64_t seed = 0; seed < 24 * static_cast<uint64_t>(expected); ++seed)
      ++counts[order_of({folder.folder().string(), seed, memory}, 4)];
    ASSERT_EQ(counts.size(), 24U);
    double statistic = 0;
    for (const auto& [order, count] : counts) {
      EXPECT_TRUE(is_each_once(order, 4));
      statistic += (count - expected) * (count - expected) / expected;
    }
    EXPECT_GT(chi_square_tail(statistic, 23), 1e-4) << memory;
  }
}

// 8,000 rows in memory for 200: sixteen files of 500 rows about, each of which is dealt out again.
TEST(ShuffledRows, ManyRowsAreEachThereOnceAndEvenly) {
  const ScratchFolder folder;
  constexpr int64_t kRows = 8000;
  const auto order = [&](uint64_t seed, int64_t memory) { return order_of({folder.folder().string(), seed, memory}, kRows, 40); };
  const std::vector<int64_t> held = order(7, kAllInMemory), dealt = order(7, 200 * 80);
  EXPECT_EQ(order(7, 200 * 80), dealt) << "the same seed";
  EXPECT_NE(order(8, 200 * 80), dealt);
  EXPECT_NE(held, dealt) << "it was not dealt out";
  for (const auto& found : {held, dealt}) {
    EXPECT_TRUE(is_each_once(found, kRows));
    // Which twentieth of the rows stands in which twentieth of the places: 20 in each of 400 cells.
    std::vector<std::vector<int64_t>> places(20, std::vector<int64_t>(20));
    int64_t still_neighbours = 0;
    for (int64_t i = 0; i < kRows; ++i) {
      ++places[static_cast<size_t>(i * 20 / kRows)][static_cast<size_t>(found[static_cast<size_t>(i)] * 20 / kRows)];
      still_neighbours += i > 0 && found[static_cast<size_t>(i)] == found[static_cast<size_t>(i - 1)] + 1;
    }
    const auto test = chi_square(places);
    EXPECT_EQ(test->degrees, 19 * 19);
    EXPECT_GT(test->p, 1e-4);
    // How many rows still follow the one before them is about Poisson's with a mean of one, which is above nine once in ten million.
    EXPECT_LE(still_neighbours, 9);
  }
  // Nothing is left in the folder, and rows that each exceed the memory come through too.
  EXPECT_TRUE(std::filesystem::is_empty(folder.folder()));
  EXPECT_TRUE(is_each_once(order_of({folder.folder().string(), 1, 1, 1 << 20}, 300), 300));
}

// The files without names are found among those that are open: what their disk loses or changes is no row of the output.
TEST(ShuffledRows, WhatAFileLosesOrChangesIsAnError) {
  const ScratchFolder folder;
  const auto change_a_file = [&](const std::function<void(int file)>& change) {
    int changed = 0;
    for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
      std::error_code gone;
      const std::string target = std::filesystem::read_symlink(entry.path(), gone).string();
      if (gone || !target.starts_with(folder.path(".merge-")) || changed++ > 0) continue;
      const int file = ::open(entry.path().c_str(), O_WRONLY);
      change(file);
      ::close(file);
    }
    EXPECT_GE(changed, 16);
  };
  const auto fail = [&](const std::function<void(int file)>& change) {
    return message_of<RunError>([&] {
      ShuffledRows rows({folder.folder().string(), 3, 1000});
      // Of each file some is on its way to the disk before the reading begins.
      for (int i = 0; i < 2000; ++i) rows.add({std::string(200, 'a'), 0});
      change_a_file(change);
      rows.for_each([](const MergedRow&) {});
    });
  };
  const std::string different = "a file in '" + folder.folder().string() + "' reads differently from what was written to it";
  EXPECT_SAYS(fail([](int file) { EXPECT_EQ(::pwrite(file, "b", 1, 100), 1); }), different);
  EXPECT_SAYS(fail([](int file) { EXPECT_EQ(::pwrite(file, "\xFF\xFF\xFF\xFF\xFF", 5, 2), 5); }), different);  // of a length
  EXPECT_SAYS(fail([](int file) { EXPECT_EQ(::ftruncate(file, 0), 0); }), different);
}

// A limit on the size of files stands for a full disk.
TEST(ShuffledRows, AFullDiskIsAnErrorThatNamesTheFolder) {
  const ScratchFolder folder;
  rlimit before = {};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  rlimit small = before;
  small.rlim_cur = 1 << 14;
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
  const std::string said = message_of<RunError>([&] { order_of({folder.folder().string(), 3, 1000}, 2000, 400); });
  setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, handler);
  EXPECT_SAYS(said, "cannot write to a file in '" + folder.folder().string() + "': File too large; make space there");
}

// What a damaged memory or disk changes of a file: of its rows, or of its bytes.
struct Damage {
  using Rows = std::vector<std::vector<std::string>>;
  std::function<void(Rows& rows)> of_rows = [](Rows&) {};
  std::function<void(const std::string& path)> of_file = [](const std::string&) {};
};

class DamagedWriter final : public TableWriter {
 public:
  DamagedWriter(const std::string& path, std::unique_ptr<TableWriter> writer, const Damage& damage)
      : path_(path), writer_(std::move(writer)), damage_(damage) {}
  void append(const std::vector<std::string_view>& row) override { rows_.emplace_back(row.begin(), row.end()); }
  void close() override {
    damage_.of_rows(rows_);
    for (const auto& row : rows_) writer_->append({row.begin(), row.end()});
    writer_->close();
    damage_.of_file(path_);
  }

 private:
  std::string path_;
  std::unique_ptr<TableWriter> writer_;
  const Damage& damage_;
  Damage::Rows rows_;
};

class Merge : public ::testing::Test {
 protected:
  void SetUp() override {
    request_.out = scratch_.path("out.parquet");
    for (const std::string name : {"a", "b"}) {
      std::ofstream file(scratch_.path(name + ".jsonl"));
      for (int i = 0; i < 150; ++i) file << "{\"text\": \"" << name << i << ' ' << std::string(static_cast<size_t>(i % 50), 'x') << "\"}\n";
      DocumentSource& source = request_.sources.emplace_back();
      source.key = source.name = name;
      source.paths = {scratch_.path(name + ".jsonl")};
    }
  }
  std::set<std::string> files() const {
    std::set<std::string> out;
    for (const auto& entry : std::filesystem::directory_iterator(scratch_.folder())) out.insert(entry.path().filename().string());
    return out;
  }
  // "source: text" of each row.
  std::vector<std::string> rows() const {
    DocumentSource source;
    source.paths = {request_.out};
    std::vector<std::string> out;
    DocumentReader(source, {"source"}).for_each(1, [&](DocumentBatch& documents) -> DocumentReader::Take {
      while (documents.next()) out.push_back(std::string(documents.field(0).text) + ": " + std::string(documents.text()));
      return [] {};
    });
    return out;
  }
  ScratchFolder scratch_;
  MergeRequest request_;
};

TEST_F(Merge, WhatExceedsTheMemoryIsDealtOutAndEachThereOnce) {
  merge_documents(request_);
  std::vector<std::string> plain = rows();
  ASSERT_EQ(plain.size(), 300U);
  EXPECT_EQ(plain[0], "a: a0 ");
  EXPECT_EQ(plain[299], "b: b149 " + std::string(49, 'x'));
  request_.overwrites = true;
  request_.shuffle = 5;
  std::set<std::vector<std::string>> orders;
  for (const int64_t memory : {int64_t{256} << 20, int64_t{4000}, int64_t{1}}) {
    request_.memory = memory;
    std::vector<std::string> first;
    for (const int threads : {1, 3}) {
      request_.num_threads = threads;
      const Json told = merge_documents(request_);
      EXPECT_EQ(told["rows"], 300);
      for (const Json& source : told["sources"]) EXPECT_EQ(source["rows"], 150);
      std::vector<std::string> found = rows();
      if (threads == 1) first = found;
      EXPECT_EQ(found, first) << "the number of threads changes nothing";
      orders.insert(found);
      std::sort(found.begin(), found.end());
      std::sort(plain.begin(), plain.end());
      EXPECT_EQ(found, plain);
    }
  }
  EXPECT_EQ(orders.size(), 3U) << "they were dealt out, in so many files";
  EXPECT_EQ(files(), (std::set<std::string>{"a.jsonl", "b.jsonl", "out.parquet", "out.json"}));
}

// What stood there before stays, too.
TEST_F(Merge, AFileThatReadsDifferentlyIsNotKept) {
  using Rows = Damage::Rows;
  request_.shuffle = 2;
  const auto change_byte = [](const std::string& path, int64_t at) {
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    file.seekg(at);
    const auto byte = static_cast<char>(file.get() ^ 0x20);
    file.seekp(at);
    file.put(byte);
  };
  const std::vector<Damage> damages = {
      {.of_rows = [](Rows& rows) { rows[70][0][0] = static_cast<char>(rows[70][0][0] ^ 1); }},  // a bit of a text
      {.of_rows = [](Rows& rows) { rows.pop_back(); }},
      {.of_rows = [](Rows& rows) { rows.push_back(rows.back()); }},
      {.of_rows = [](Rows& rows) { std::swap(rows[10], rows[11]); }},
      {.of_rows = [](Rows& rows) { rows[20][1] = rows[20][1] == "a" ? "b" : "a"; }},
      {.of_rows = [](Rows& rows) { rows[30][0] = "\xFF"; }},  // what is no text
      {.of_file = [&](const std::string& path) { change_byte(path, static_cast<int64_t>(std::filesystem::file_size(path)) / 3); }},
      {.of_file = [&](const std::string& path) { change_byte(path, static_cast<int64_t>(std::filesystem::file_size(path)) - 1); }},
      {.of_file = [](const std::string& path) { std::filesystem::resize_file(path, 1000); }},
  };
  for (const bool stood_before : {false, true}) {
    request_.write = write_parquet;
    if (stood_before) merge_documents(request_);
    request_.overwrites = stood_before;
    const std::set<std::string> before = files();
    const std::string content = content_of(request_.out), record = content_of(scratch_.path("out.json"));
    const auto expect_nothing_kept = [&](const std::string& name) {
      const std::string said = message_of<RunError>([&] { merge_documents(request_); });
      EXPECT_SAYS(said, "out.parquet.part.parquet' reads differently from what was written to it") << name;
      EXPECT_SAYS(said, "the disk or its memory is damaged") << name;
      EXPECT_EQ(files(), before) << name;
      EXPECT_EQ(content_of(request_.out), content) << name;
      EXPECT_EQ(content_of(scratch_.path("out.json")), record) << name;
    };
    for (size_t i = 0; i < damages.size(); ++i) {
      request_.write = [&](const auto& path, const auto& columns, const auto& key) {
        return std::make_unique<DamagedWriter>(path, write_parquet(path, columns, key), damages[i]);
      };
      expect_nothing_kept("damage " + std::to_string(i));
    }
  }
}

}  // namespace
}  // namespace zerostep
