#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace zerostep {

// A document and the number of the source that it is of.
struct MergedRow {
  std::string text;
  uint32_t source = 0;
};

// Rows in a uniformly random order that follows from the seed, the rows and the two sizes below alone. What exceeds the memory is dealt
// out, each row to a file drawn at random, and each file's rows are shuffled by themselves: so every order of all of them is as likely.
// What one file holds beyond the memory is dealt out once more.
class ShuffledRows {
 public:
  struct Options {
    std::string folder;  // where the files are, which have no names
    uint64_t seed = 0;
    int64_t memory = 0;          // bytes of rows, about, that are in memory at once
    int64_t expected_bytes = 0;  // of text, about, that will come: decides between few files and many
  };
  using Take = std::function<void(const MergedRow&)>;

  explicit ShuffledRows(Options options);
  ~ShuffledRows();
  ShuffledRows(const ShuffledRows&) = delete;
  ShuffledRows& operator=(const ShuffledRows&) = delete;

  // RunError, naming the folder, where a file cannot be made or written.
  void add(MergedRow row);
  // Hands over each row once; nothing is left. RunError also where a file reads differently from what was written to it.
  void for_each(const Take& take);

 private:
  class File;
  class Dealt;

  void take_shuffled(const std::vector<MergedRow>& rows, const Take& take);
  void take_dealt(Dealt& dealt, int depth, const Take& take);
  std::unique_ptr<Dealt> deal(int64_t num_bytes, int64_t fewest, int64_t most);

  Options options_;
  std::vector<MergedRow> rows_;  // until they exceed the memory
  int64_t num_bytes_ = 0;        // of them
  std::unique_ptr<Dealt> dealt_;
  // So that no two dealings and no two shuffles draw the same numbers.
  uint64_t num_dealings_ = 0;
  int64_t num_shuffles_ = 0;
};

}  // namespace zerostep
