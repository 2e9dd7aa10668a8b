#include "base/mapped_file.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <utility>

#include "base/error.h"

namespace zerostep {
namespace {

class MappedFileTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = std::filesystem::temp_directory_path() / ("zerostep_mapped_file_" + std::to_string(::getpid()));
    std::filesystem::create_directories(folder_);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::string write(const std::string& name, const std::string& content) {
    const std::string path = (folder_ / name).string();
    std::ofstream(path, std::ios::binary) << content;
    return path;
  }
  static std::string text(const MappedFile& file) { return {reinterpret_cast<const char*>(file.bytes().data()), file.num_bytes()}; }
  template <typename Error>
  static std::string message(const std::string& path) {
    try {
      MappedFile file(path);
    } catch (const Error& error) {
      return error.what();
    }
    return "no error";
  }
  std::filesystem::path folder_;
};

TEST_F(MappedFileTest, GivesTheBytesOfTheFile) {
  std::string content;
  for (int i = 0; i < 10000; ++i) content.push_back(static_cast<char>(i * 7));
  const MappedFile file(write("data", content));
  EXPECT_EQ(file.num_bytes(), 10000u);
  EXPECT_EQ(text(file), content);
}

TEST_F(MappedFileTest, EmptyFileHasNoBytes) {
  const MappedFile file(write("empty", ""));
  EXPECT_EQ(file.num_bytes(), 0u);
  EXPECT_TRUE(file.bytes().empty());
}

TEST_F(MappedFileTest, MovesKeepTheMapping) {
  MappedFile first(write("first", "one"));
  const auto* data = first.bytes().data();
  MappedFile moved(std::move(first));
  EXPECT_EQ(moved.bytes().data(), data);
  EXPECT_TRUE(first.bytes().empty());  // NOLINT(bugprone-use-after-move): a moved-from file is empty
  MappedFile second(write("second", "three"));
  second = std::move(moved);
  EXPECT_EQ(text(second), "one");
  EXPECT_NE(second.path().find("first"), std::string::npos);
  MappedFile& self = second;
  second = std::move(self);
  EXPECT_EQ(text(second), "one");
}

TEST_F(MappedFileTest, SurvivesTheRemovalOfItsName) {
  const std::string path = write("gone", "still here");
  const MappedFile file(path);
  std::filesystem::remove(path);
  EXPECT_EQ(text(file), "still here");
}

TEST_F(MappedFileTest, ErrorsNameThePath) {
  const std::string missing = (folder_ / "missing").string();
  EXPECT_NE(message<InputError>(missing).find(missing), std::string::npos);
  EXPECT_NE(message<InputError>(missing).find("No such file"), std::string::npos);
  EXPECT_NE(message<InputError>(folder_.string()).find("is a directory"), std::string::npos);
  EXPECT_NE(message<InputError>("").find("No such file"), std::string::npos);
  const std::string fifo = (folder_ / "fifo").string();
  ASSERT_EQ(::mkfifo(fifo.c_str(), 0600), 0);
  EXPECT_NE(message<InputError>(fifo).find("regular file is expected"), std::string::npos);
}

// Bytes of the mapping at an address that are in this process's memory.
size_t resident_bytes_at(const void* address) {
  std::ifstream maps("/proc/self/smaps");
  const std::string begin = fmt::format("{:x}-", reinterpret_cast<uintptr_t>(address));
  bool is_it = false;
  for (std::string line; std::getline(maps, line);) {
    if (line.find('-') < line.find(' ')) is_it = line.starts_with(begin);
    if (is_it && line.starts_with("Rss:")) return std::stoul(line.substr(4)) * 1024;
  }
  return 0;
}

TEST_F(MappedFileTest, ReleasedPagesLeaveTheResidentSetAndKeepTheirBytes) {
  const auto page = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
  std::string content;
  for (size_t i = 0; i < 100 * page; ++i) content.push_back(static_cast<char>(i * 7 + i / page));
  const MappedFile file(write("released", content));
  EXPECT_EQ(text(file), content);
  EXPECT_EQ(resident_bytes_at(file.bytes().data()), content.size());
  file.release(1, content.size() - 2);  // all but the first page and the last, of which a byte is not released
  EXPECT_EQ(resident_bytes_at(file.bytes().data()), 2 * page);
  file.release(page - 1, 2);  // no whole page
  EXPECT_EQ(resident_bytes_at(file.bytes().data()), 2 * page);
  EXPECT_EQ(text(file), content);
}

}  // namespace
}  // namespace zerostep
