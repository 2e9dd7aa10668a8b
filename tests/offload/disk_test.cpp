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
  EXPECT_FALSE(std::filesystem::exists(scratch.path("note.txt.partial")));
}

}  // namespace
}  // namespace zerostep::testing
