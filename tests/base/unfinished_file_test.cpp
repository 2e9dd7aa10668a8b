#include "base/unfinished_file.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <optional>
#include <vector>

#include "base/error.h"
#include "tests/support/expect_says.h"
#include "tests/support/scratch_folder.h"

namespace zerostep::testing {
namespace {

namespace fs = std::filesystem;

class UnfinishedFiles : public ::testing::Test {
 protected:
  std::string read(const std::string& name) const {
    std::ifstream file(scratch_.path(name));
    return {std::istreambuf_iterator<char>(file), {}};
  }
  static void write(const UnfinishedFile& file, const std::string& text) {
    EXPECT_EQ(::write(file.file(), text.data(), text.size()), static_cast<ssize_t>(text.size()));
  }
  // "": it is not refused.
  std::string refusal() const {
    try {
      const UnfinishedFile file(scratch_.path("a"), scratch_.path("a.partial"));
      return "";
    } catch (const InputError& error) {
      return error.what();
    }
  }
  const ScratchFolder scratch_;
};

TEST_F(UnfinishedFiles, HaveTheirNameWhenTheyAreWhole) {
  std::ofstream(scratch_.path("a")) << "before";
  std::optional<UnfinishedFile> file(std::in_place, scratch_.path("a"), scratch_.path("a.partial"));
  write(*file, "after");
  EXPECT_EQ(read("a"), "before");
  file->publish();
  EXPECT_EQ(read("a"), "after");
  file.emplace(scratch_.path("a"), scratch_.path("a.partial"));
  write(*file, "half");
  file.reset();
  EXPECT_EQ(read("a"), "after");
  EXPECT_FALSE(fs::exists(scratch_.path("a.partial")));
}

TEST_F(UnfinishedFiles, AreOfOneProcessAtATime) {
  std::optional<UnfinishedFile> file(std::in_place, scratch_.path("a"), scratch_.path("a.partial"));
  write(*file, "the first's");
  EXPECT_SAYS(refusal(), scratch_.path("a") + ": another process writes it");
  EXPECT_EQ(read("a.partial"), "the first's") << "what the other writes is not touched";
  file->publish();
  EXPECT_EQ(refusal(), "");
  // Of a process that is killed the next one takes it over, with nothing in it.
  const pid_t other = ::fork();
  ASSERT_GE(other, 0);
  if (other == 0) {
    const UnfinishedFile mine(scratch_.path("a"), scratch_.path("a.partial"));
    write(mine, "of who was killed");
    ::kill(::getpid(), SIGKILL);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(other, &status, 0), other);
  ASSERT_EQ(read("a.partial"), "of who was killed");
  file.emplace(scratch_.path("a"), scratch_.path("a.partial"));
  write(*file, "whole");
  file->publish();
  EXPECT_EQ(read("a"), "whole");
}

TEST_F(UnfinishedFiles, GoWhereASignalEndsTheirProcess) {
  const pid_t other = ::fork();
  ASSERT_GE(other, 0);
  if (other == 0) {
    UnfinishedFile done(scratch_.path("done"), scratch_.path("done.partial"));
    done.publish();
    std::ofstream(scratch_.path("done.partial")) << "another's";
    std::vector<std::unique_ptr<UnfinishedFile>> files;
    for (int round = 0; round < 3; ++round) {  // a place is used again
      files.clear();
      for (const char* name : {"a", "b", "c"})
        files.push_back(std::make_unique<UnfinishedFile>(scratch_.path(name), scratch_.path(name) + ".partial"));
    }
    std::signal(SIGTERM, [](int) {
      remove_unfinished_files();
      ::_exit(3);
    });
    std::raise(SIGTERM);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(other, &status, 0), other);
  EXPECT_EQ(WEXITSTATUS(status), 3);
  for (const char* name : {"a", "b", "c"}) EXPECT_FALSE(fs::exists(scratch_.path(name) + ".partial")) << name;
  EXPECT_EQ(read("done.partial"), "another's");
}

TEST_F(UnfinishedFiles, APipeInItsPlaceIsNotWaitedFor) {
  ASSERT_EQ(::mkfifo(scratch_.path("a.partial").c_str(), 0600), 0);
  EXPECT_THROW(UnfinishedFile(scratch_.path("a"), scratch_.path("a.partial")), RunError);  // nobody reads it
  EXPECT_TRUE(fs::exists(scratch_.path("a.partial")));
  EXPECT_THROW(UnfinishedFile(scratch_.path("no/a"), scratch_.path("no/a.partial")), RunError);
}

TEST_F(UnfinishedFiles, NamesAreOfOneProcess) {
  const std::string one = unfinished_name("a/b"), other = unfinished_name("a/b");
  EXPECT_NE(one, other);
  EXPECT_TRUE(one.starts_with("a/b.") && one.ends_with(".partial")) << one;
}

}  // namespace
}  // namespace zerostep::testing
