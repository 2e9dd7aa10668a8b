#include "models/json_file.h"

#include <gtest/gtest.h>

#include <fstream>

#include "base/error.h"
#include "base/json_depth.h"
#include "tests/support/expect_says.h"
#include "tests/support/scratch_folder.h"

namespace zerostep {
namespace {

TEST(JsonFile, NestsNotWithoutEnd) {
  const ScratchFolder scratch;
  const std::string path = scratch.path("tokenizer.json");
  const auto nested = [&](size_t depth) { std::ofstream(path) << std::string(depth, '[') + std::string(depth, ']'); };
  nested(kDeepestJson);
  EXPECT_TRUE(parse_json_file(path).is_array());
  for (const size_t depth : {kDeepestJson + 1, size_t{200000}}) {
    nested(depth);
    try {
      parse_json_file(path);
      ADD_FAILURE() << depth;
    } catch (const InputError& error) {
      EXPECT_SAYS(std::string(error.what()), path + ": nests objects or lists more than 512 deep");
    }
  }
}

}  // namespace
}  // namespace zerostep
