#include "experiments/datasets/shuffled_rows.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <utility>

#include "base/content_hash.h"
#include "base/error.h"
#include "base/noise.h"
#include "base/nth.h"
#include "runtime/data/permutation.h"

namespace zerostep {
namespace {

// Files of one dealing. They are open together with those of the dealings around it, of 1,024 that a process commonly may have open.
constexpr int64_t kFewestFiles = 16, kMostFiles = 200;
// One after the other: rows that each exceed the memory would be dealt out for ever.
constexpr int kMostDealings = 4;

int64_t size_of(const MergedRow& row) { return static_cast<int64_t>(sizeof(row) + row.text.size()); }

}  // namespace

// A file without a name, written once and then read once.
class ShuffledRows::File {
 public:
  explicit File(const std::string& folder) : folder_(folder) {
    std::string name = folder + "/.merge-XXXXXX";
    const int descriptor = ::mkstemp(name.data());
    file_.reset(descriptor < 0 ? nullptr : ::fdopen(descriptor, "w+b"));
    if (!file_) fail_run("cannot make a file in '{}': {}", folder, std::strerror(errno));
    ::unlink(name.c_str());
  }

  void write(const MergedRow& row) {
    const uint64_t head[2] = {row.text.size(), row.source};
    if (std::fwrite(head, sizeof(head), 1, file_.get()) != 1 ||
        std::fwrite(row.text.data(), 1, row.text.size(), file_.get()) != row.text.size())
      fail_write();
    add(written_, row);
    ++num_rows_;
    num_bytes_ += size_of(row);
  }
  int64_t num_rows() const { return num_rows_; }
  int64_t num_bytes() const { return num_bytes_; }  // that its rows take in memory

  template <typename F>
  void for_each(const F& take) {
    if (std::fflush(file_.get()) != 0) fail_write();
    std::rewind(file_.get());
    ContentHash read;
    for (int64_t i = 0; i < num_rows_; ++i) {
      uint64_t head[2];
      if (std::fread(head, sizeof(head), 1, file_.get()) != 1) fail_read();
      if (head[0] > static_cast<uint64_t>(num_bytes_)) fail_different();
      MergedRow row{std::string(head[0], '\0'), static_cast<uint32_t>(head[1])};
      if (std::fread(row.text.data(), 1, row.text.size(), file_.get()) != row.text.size()) fail_read();
      add(read, row);
      take(std::move(row));
    }
    if (read.hex() != written_.hex()) fail_different();
  }

 private:
  struct Close {
    void operator()(std::FILE* file) const { std::fclose(file); }
  };
  static void add(ContentHash& hash, const MergedRow& row) { hash.add(row.text).add(uint64_t{row.source}); }
  [[noreturn]] void fail_write() const { fail_run("cannot write to a file in '{}': {}; make space there", folder_, std::strerror(errno)); }
  [[noreturn]] void fail_read() const {
    if (std::ferror(file_.get()) == 0) fail_different();
    fail_run("cannot read a file in '{}' again: {}", folder_, std::strerror(errno));
  }
  [[noreturn]] void fail_different() const {
    fail_run("a file in '{}' reads differently from what was written to it: the disk or its memory is damaged", folder_);
  }

  std::string folder_;
  std::unique_ptr<std::FILE, Close> file_;
  ContentHash written_;
  int64_t num_rows_ = 0, num_bytes_ = 0;
};

// Rows in files, each in one that is drawn by its place among them.
class ShuffledRows::Dealt {
 public:
  Dealt(const Options& options, uint64_t dealing, int64_t num_files)
      : key_{.seed = options.seed, .tag = NoiseTag::Mixture, .step = dealing, .stream = (1U << 24) - 1} {
    for (int64_t i = 0; i < num_files; ++i) files.emplace_back(options.folder);
  }
  void add(const MergedRow& row) {
    uint32_t drawn = 0;
    fill_bits(key_, num_rows_++, 1, &drawn);
    nth(files, uint64_t{drawn} * files.size() >> 32).write(row);
  }
  std::vector<File> files;

 private:
  NoiseKey key_;
  uint64_t num_rows_ = 0;
};

ShuffledRows::ShuffledRows(Options options) : options_(std::move(options)) {}
ShuffledRows::~ShuffledRows() = default;

std::unique_ptr<ShuffledRows::Dealt> ShuffledRows::deal(int64_t num_bytes, int64_t fewest, int64_t most) {
  const int64_t files = std::clamp(num_bytes / std::max<int64_t>(options_.memory, 1) + 1, fewest, most);
  return std::make_unique<Dealt>(options_, num_dealings_++, files);
}

void ShuffledRows::add(MergedRow row) {
  if (dealt_) {
    dealt_->add(row);
    return;
  }
  num_bytes_ += size_of(row);
  rows_.push_back(std::move(row));
  if (num_bytes_ <= options_.memory) return;
  dealt_ = deal(options_.expected_bytes, kFewestFiles, kMostFiles);
  for (const MergedRow& held : rows_) dealt_->add(held);
  rows_ = {};
}

void ShuffledRows::for_each(const Take& take) {
  if (dealt_) {
    take_dealt(*dealt_, 1, take);
  } else {
    take_shuffled(rows_, take);
  }
  dealt_.reset();
  rows_ = {};
}

void ShuffledRows::take_dealt(Dealt& dealt, int depth, const Take& take) {
  for (File& file : dealt.files) {
    if (file.num_bytes() > options_.memory && file.num_rows() > 1 && depth < kMostDealings) {
      const auto again = deal(file.num_bytes(), 2, std::min(file.num_rows(), kMostFiles));
      file.for_each([&](MergedRow row) { again->add(row); });
      take_dealt(*again, depth + 1, take);
    } else {
      std::vector<MergedRow> rows;
      rows.reserve(static_cast<size_t>(file.num_rows()));
      file.for_each([&](MergedRow row) { rows.push_back(std::move(row)); });
      take_shuffled(rows, take);
    }
    File done = std::move(file);  // its room on the disk is free again
  }
}

void ShuffledRows::take_shuffled(const std::vector<MergedRow>& rows, const Take& take) {
  if (rows.empty()) return;
  const Permutation order(std::ssize(rows), options_.seed, num_shuffles_++);
  for (int64_t i = 0; i < std::ssize(rows); ++i) take(nth(rows, order(i)));
}

}  // namespace zerostep
