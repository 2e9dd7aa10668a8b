#include <gtest/gtest.h>

#include <map>
#include <nlohmann/json.hpp>
#include <stdexcept>

#include "experiments/datasets/check.h"
#include "experiments/datasets/merge.h"
#include "experiments/datasets/show.h"
#include "tests/support/large_table.h"
#include "tests/support/memory_growth.h"
#include "tests/support/scratch_folder.h"

namespace zerostep {
namespace {

// Of a table that has 64 MiB of text more, no command takes 40 MiB more memory: what they hold are batches in work, pages and row groups of
// one file or two, and tables whose size is fixed. A merge that shuffles deals its rows out, whose text is many times the file.
TEST(DataSetsMemory, IsBoundedHoweverManyRowGroupsThereAre) {
  const ScratchFolder folder;
  constexpr int64_t kRowBytes = 1 << 14;
  const auto in_a_child = testing::memory_growth_of;
  const auto commands = [&](const std::string& table, int64_t groups) {
    DocumentSource source;
    source.key = source.name = "table";
    source.paths = {folder.path(table)};
    const std::vector<DocumentSource> sources{source};
    const int64_t rows = testing::rows_of_large_table(groups, kRowBytes);
    // Where it is made no memory of Arrow's stays behind that the commands would use again.
    EXPECT_GE(in_a_child([&] { testing::write_large_table(folder.path(table), groups, kRowBytes); }), 0);
    const auto expect_rows = [&](const nlohmann::ordered_json& told) {
      if (told["rows"] != rows) throw std::runtime_error(told.dump());
    };
    const auto merge = [&](std::optional<uint64_t> shuffle) {
      MergeRequest request;
      request.sources = sources;
      request.num_threads = 2;
      request.out = folder.path("out.parquet");
      request.overwrites = true;
      request.shuffle = shuffle;
      request.memory = 8 << 20;
      expect_rows(merge_documents(request));
    };
    std::map<std::string, int64_t> growth;
    growth["show"] = in_a_child([&] {
      ShowRequest request;
      request.sources = sources;
      request.num_threads = 2;
      expect_rows(show_documents(request));
    });
    growth["check"] = in_a_child([&] {
      CheckRequest request;
      request.sources = request.against = sources;
      request.num_threads = 2;
      expect_rows(check_documents(request));
    });
    growth["merge"] = in_a_child([&] { merge(std::nullopt); });
    growth["merge --shuffle"] = in_a_child([&] { merge(3); });
    return growth;
  };
  testing::write_large_table(folder.path("empty.parquet"), 0, kRowBytes);  // what Arrow's library takes itself is here before
  const auto few = commands("few.parquet", 1), many = commands("many.parquet", 3);
  for (const auto& [command, growth] : many) {
    EXPECT_GE(few.at(command), 0) << command;
    EXPECT_GE(growth, 0) << command;
    EXPECT_LE(growth - few.at(command), int64_t{40} << 20) << command;
  }
}

}  // namespace
}  // namespace zerostep
