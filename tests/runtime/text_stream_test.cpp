#include "runtime/data/text_stream.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <string>

#include "base/process_memory.h"

namespace zerostep {
namespace {

// A corpus that is read through once does not stay in the process's memory, however large it is, and every byte of it comes.
TEST(TextStream, WhatLiesFarBehindLeavesTheResidentSet) {
  const std::filesystem::path path = std::filesystem::temp_directory_path() / ("zerostep_text_stream_" + std::to_string(::getpid()));
  std::ofstream(path) << "first line\n";
  const size_t size = 3 * TextStream::kKept;
  std::filesystem::resize_file(path, size);  // zeros, without room on the disk
  const int64_t before = resident_memory().now;
  int64_t most = before;
  size_t zeros = 0, taken = 0;
  {
    TextStream stream(path, "data.train");
    constexpr size_t kPart = 1 << 20;
    for (std::string_view rest = stream.look(kPart); !rest.empty(); rest = stream.look(kPart)) {
      const TextPart part = stream.take(std::min(kPart, rest.size()));
      zeros += static_cast<size_t>(std::count(part.text.begin(), part.text.end(), '\0'));
      taken += part.text.size();
      most = std::max(most, resident_memory().now);
    }
  }
  std::filesystem::remove(path);
  EXPECT_EQ(taken, size);
  EXPECT_EQ(zeros, size - 11);
  // What is kept, a stride of an eighth, and what faults bring around a page.
  EXPECT_LE(most - before, static_cast<int64_t>(TextStream::kKept + TextStream::kKept / 8 + (4 << 20)));
}

}  // namespace
}  // namespace zerostep
