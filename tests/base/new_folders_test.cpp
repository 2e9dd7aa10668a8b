#include "base/new_folders.h"

#include <gtest/gtest.h>

#include <fstream>

#include "tests/support/scratch_folder.h"

namespace zerostep {
namespace {

namespace fs = std::filesystem;

TEST(NewFolders, GoAgainUnlessTheyAreKeptOrHoldSomething) {
  const ScratchFolder scratch;
  const auto exists = [&](const std::string& name) { return fs::exists(scratch.path(name)); };
  {
    NewFolders folders;
    EXPECT_EQ(folders.make(scratch.path("a/b/c")), "");
    EXPECT_EQ(folders.make(scratch.path("a/b/c")), "");
    EXPECT_EQ(folders.make(scratch.path("d")), "");
    EXPECT_EQ(folders.made(), (std::vector<std::string>{scratch.path("a/b/c"), scratch.path("d")}));
    EXPECT_TRUE(exists("a/b/c") && exists("d"));
    std::ofstream(scratch.path("a/file")) << "x";
    const NewFolders moved = std::move(folders);
    EXPECT_TRUE(exists("a/b/c"));
  }
  EXPECT_FALSE(exists("a/b") || exists("d"));
  EXPECT_TRUE(exists("a/file"));
  {
    NewFolders folders;
    EXPECT_EQ(folders.make(scratch.path("a/kept")), "");
    folders.keep();
    EXPECT_EQ(folders.made(), std::vector<std::string>());
    EXPECT_EQ(folders.make(scratch.path("a")), "");  // which was there
  }
  EXPECT_TRUE(exists("a/kept"));
}

TEST(NewFolders, SayWhyTheyCannotBeMade) {
  const ScratchFolder scratch;
  std::ofstream(scratch.path("file")) << "x";
  fs::create_symlink("nowhere", scratch.path("link"));
  NewFolders folders;
  EXPECT_EQ(folders.make(scratch.path("file")), "is a file");
  EXPECT_EQ(folders.make(scratch.path("file/below")), "cannot be made: Not a directory");
  const std::string of_link = "cannot be made: " + scratch.path("link") + " is a link to nowhere, where nothing is";
  EXPECT_EQ(folders.make(scratch.path("link")), of_link);
  EXPECT_EQ(folders.make(scratch.path("link/below/it")), of_link);
  EXPECT_EQ(folders.make("/proc/none"), "cannot be made: No such file or directory");
  EXPECT_EQ(folders.make(scratch.path("new/" + std::string(300, 'x'))), "cannot be made: File name too long");
  std::error_code error;
  EXPECT_FALSE(folders.make_one(scratch.folder(), error));
  EXPECT_FALSE(error);
  folders.remove();
  EXPECT_FALSE(fs::exists(scratch.path("new")));
}

}  // namespace
}  // namespace zerostep
