#include "offload/disk.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>

#include "tests/support/scratch_folder.h"

namespace zerostep::testing {
namespace {

TEST(WriteDurably, TakesANameInTheCurrentFolder) {
  const ScratchFolder scratch;
  const std::filesystem::path before = std::filesystem::current_path();
  std::filesystem::current_path(scratch.path("."));
  EXPECT_NO_THROW(write_durably(Disk::real(), "note.txt", "kept"));
  std::filesystem::current_path(before);
  std::ifstream file(scratch.path("note.txt"));
  EXPECT_EQ(std::string(std::istreambuf_iterator<char>(file), {}), "kept");
  for (const auto& entry : std::filesystem::directory_iterator(scratch.path("."))) EXPECT_EQ(entry.path().filename(), "note.txt");
}

}  // namespace
}  // namespace zerostep::testing
