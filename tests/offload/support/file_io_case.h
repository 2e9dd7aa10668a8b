#pragma once
#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <memory>
#include <stdexcept>
#include <string>

#include "base/dtype.h"
#include "offload/disk.h"
#include "offload/file_io.h"
#include "tests/offload/support/faulty_queue.h"
#include "tests/offload/support/file_queues.h"
#include "tests/offload/support/random_text.h"
#include "tests/support/scratch_folder.h"

namespace zerostep::testing {

inline constexpr int64_t kBlock = 8192;
inline constexpr int64_t kPage = kDirectAlignment;

inline std::string content(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

// Page-aligned memory.
class Memory {
 public:
  explicit Memory(int64_t size, char value = '?')
      : data_(static_cast<std::byte*>(std::aligned_alloc(kDirectAlignment, static_cast<size_t>(round_up(size, kPage) + kPage)))) {
    std::memset(data_, value, static_cast<size_t>(round_up(size, kPage) + kPage));
  }
  ~Memory() { std::free(data_); }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  std::byte* at(int64_t offset = 0) const { return data_ + offset; }
  std::string text(int64_t offset, int64_t size) const { return {reinterpret_cast<const char*>(at(offset)), static_cast<size_t>(size)}; }
  void put(int64_t offset, const std::string& text) { std::memcpy(at(offset), text.data(), text.size()); }

 private:
  std::byte* data_;
};

// A file in a folder that goes with it, open as FileIo wants it.
class OpenFile {
 public:
  explicit OpenFile(bool is_direct = true, const std::string& before = "") : file_{folder_.path("data"), -1, is_direct} {
    std::ofstream(file_.path, std::ios::binary) << before;
    file_.descriptor = ::open(file_.path.c_str(), O_RDWR | O_CLOEXEC | (is_direct ? O_DIRECT : 0));
    if (file_.descriptor < 0) throw std::runtime_error(file_.path + ": " + std::strerror(errno));
  }
  ~OpenFile() { ::close(file_.descriptor); }
  OpenFile(const OpenFile&) = delete;
  OpenFile& operator=(const OpenFile&) = delete;
  const IoFile& file() const { return file_; }
  const IoFile* get() const { return &file_; }
  const std::string& path() const { return file_.path; }

 private:
  ScratchFolder folder_;
  IoFile file_;
};

class FileIoTest : public ::testing::TestWithParam<QueueKind> {
 protected:
  static AioOptions options(int depth = 4) { return {.block_size = kBlock, .queue_depth = depth, .stall_seconds = 30}; }
  FileIo make(AioOptions options = FileIoTest::options()) const {
    options.make_queue = [this](const AioOptions& o) { return std::make_unique<FaultyQueue>(faults_, testing::make(GetParam(), o)); };
    return FileIo(options);
  }
  // 37 blocks and a part, read back through faults.
  void expect_right_in_spite_of_faults() {
    for (const bool is_direct : {true, false}) {
      const std::string text = random_text(37 * kBlock + 1234, 5);
      OpenFile file(is_direct);
      Memory memory(std::ssize(text)), back(std::ssize(text));
      memory.put(0, text);
      FileIo io = make();
      io.write({{{file.get(), 0, memory.at(), std::ssize(text)}}});
      EXPECT_EQ(content(file.path()).substr(0, text.size()), text);
      io.read({{{file.get(), 0, back.at(), std::ssize(text)}}});
      EXPECT_EQ(back.text(0, std::ssize(text)), text);
      EXPECT_EQ(faults_->num_in_flight, 0);
      EXPECT_EQ(io.counts().bytes_read, std::ssize(text));
      EXPECT_EQ(io.counts().bytes_written, std::ssize(text));
      EXPECT_EQ(io.counts().requests, faults_->num_requests);
      for (const IoRequest& r : faults_->requests) {
        const bool is_aligned = r.offset % kPage == 0 && r.num_bytes % kPage == 0 && reinterpret_cast<uintptr_t>(r.memory) % kPage == 0;
        EXPECT_TRUE(is_aligned || !is_direct) << r.offset << " " << r.num_bytes << " " << r.memory;
      }
      counts_ = io.counts();
      *faults_ = Faults{faults_->answer, faults_->shorten, faults_->delay_milliseconds, faults_->is_reordered};
    }
  }
  std::shared_ptr<Faults> faults_ = std::make_shared<Faults>();
  FileIoCounts counts_;
};

}  // namespace zerostep::testing
