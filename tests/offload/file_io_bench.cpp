// Reads and writes of chunks that rest in files, on a lane, beside what the disk gives to a plain loop: threads that pread or pwrite blocks
// of the same size past the page cache, as many of them as serve best, from and to as much memory; and to fio, where it is installed, with
// the same depth (its memory is in small pages, which costs some disks a great deal). Taken in turns in one run: disks and their neighbours
// vary, so the ratios are medians over rounds of pairs. Last, as many bytes read as written at once, as a step does. Writes what it needs
// to FOLDER; takes a minute or two. usage: file_io_bench [FOLDER, default .] [MiB, default 512] [rounds, default 5] [queue depth, default
// 8] [block KiB, default 1024]
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "base/arena.h"
#include "base/error.h"
#include "offload/scratch_files.h"
#include "tests/support/timing.h"

namespace zerostep {
namespace {

using testing::median;
using testing::median_ratio;
using testing::seconds_of;

constexpr int64_t kMiB = int64_t{1} << 20;

// The limit: a file of its own, written once, so that every transfer finds its blocks in place.
class PlainLoop {
 public:
  PlainLoop(const std::string& folder, int64_t num_bytes, int64_t block)
      : num_bytes_(num_bytes), block_(block), memory_(Arena::host_memory("plain loop", kMemory)) {
    std::string path = folder + "/file_io_bench_XXXXXX";
    file_ = ::mkostemp(path.data(), O_DIRECT | O_CLOEXEC);
    if (file_ < 0) fail_run("{} cannot be opened past the page cache: {}", path, std::strerror(errno));
    ::unlink(path.c_str());
    if (::posix_fallocate(file_, 0, num_bytes) != 0) fail_run("no space for {} bytes in {}", num_bytes, folder);
    data_ = static_cast<std::byte*>(memory_.allocate(kMemory, "blocks"));
    run(true, 4);
  }
  ~PlainLoop() { ::close(file_); }
  PlainLoop(const PlainLoop&) = delete;
  PlainLoop& operator=(const PlainLoop&) = delete;

  double run(bool is_write, int num_threads) {
    std::atomic<int64_t> next = 0;
    const auto work = [&] {
      for (int64_t at; (at = next.fetch_add(block_)) < num_bytes_;) {
        std::byte* const block = data_ + at % kMemory;
        const auto size = static_cast<size_t>(block_);
        if ((is_write ? ::pwrite(file_, block, size, at) : ::pread(file_, block, size, at)) != block_)
          fail_run("the plain loop failed at {}", at);
      }
    };
    return seconds_of([&] {
      std::vector<std::jthread> threads;
      for (int t = 1; t < num_threads; ++t) threads.emplace_back(work);
      work();
    });
  }

 private:
  static constexpr int64_t kMemory = 64 * kMiB;
  int64_t num_bytes_, block_;
  Arena memory_;
  int file_;
  std::byte* data_;
};

// Seconds that fio takes; 0 where it is not installed.
double fio_seconds(bool is_write, const std::string& folder, int64_t num_bytes, int64_t block, int depth) {
  const std::string command = fmt::format(
      "fio --name=x --filename={0}/file_io_bench_fio --size={1} --bs={2} --iodepth={3} --rw={4} --ioengine=io_uring --direct=1 "
      "--output-format=terse --terse-version=3 2>/dev/null | cut -d';' -f{5}; rm -f {0}/file_io_bench_fio",
      folder, num_bytes, block, depth, is_write ? "write --overwrite=1" : "read", is_write ? 48 : 7);
  FILE* pipe = ::popen(command.c_str(), "r");
  double kibibytes_a_second = 0;
  const bool has_result = pipe != nullptr && std::fscanf(pipe, "%lf", &kibibytes_a_second) == 1 && kibibytes_a_second > 0;
  if (pipe != nullptr) ::pclose(pipe);
  return has_result ? static_cast<double>(num_bytes) / (kibibytes_a_second * 1024) : 0;
}

// One way to keep the same bytes: chunks of a size, through a kind of queue.
struct Contender {
  std::string name;
  int64_t chunk_bytes;
  std::unique_ptr<ScratchFiles> files;
  std::array<std::vector<double>, 2> seconds = {};  // of reads, of writes
};

double run(Contender& contender, bool is_write, int64_t num_bytes, Stream& lane, std::byte* memory) {
  return seconds_of([&] {
    for (int64_t chunk = 0; chunk < num_bytes / contender.chunk_bytes; ++chunk) {
      if (is_write)
        contender.files->write(lane, 0, static_cast<int>(chunk), memory);
      else
        contender.files->read(lane, 0, static_cast<int>(chunk), memory);
    }
    lane.synchronize();
  });
}

// Seconds to read so many bytes and to write as many at once.
template <typename Read, typename Write>
double seconds_of_both(const Read& read, const Write& write) {
  return seconds_of([&] {
    std::jthread beside(write);
    read();
  });
}

void compare_both_at_once(const std::string& folder, int64_t num_bytes, int rounds, const AioOptions& aio) {
  constexpr int kThreads = 8;
  constexpr int64_t kChunk = 16 * kMiB;
  PlainLoop read_loop(folder, num_bytes, aio.block_size), write_loop(folder, num_bytes, aio.block_size);
  Arena arena = Arena::host_memory("chunks", 2 * kChunk);
  auto* const memory = static_cast<std::byte*>(arena.allocate(2 * kChunk, "chunks"));
  Stream read_lane = Stream::worker("read lane"), write_lane = Stream::worker("write lane");
  const auto make = [&] {
    return std::make_unique<ScratchFiles>(ScratchOptions{.folders = {folder}, .aio = aio},
                                          std::vector<FileBuffer>{{"bench", num_bytes, kChunk}});
  };
  Contender readers{"", kChunk, make()}, writers{"", kChunk, make()};
  for (Contender* contender : {&readers, &writers}) run(*contender, true, num_bytes, write_lane, memory);
  std::vector<double> plain, lanes;
  for (int round = 0; round < rounds; ++round) {
    plain.push_back(seconds_of_both([&] { read_loop.run(false, kThreads); }, [&] { write_loop.run(true, kThreads); }));
    lanes.push_back(seconds_of_both([&] { run(readers, false, num_bytes, read_lane, memory); },
                                    [&] { run(writers, true, num_bytes, write_lane, memory + kChunk); }));
  }
  const auto speed = [&](const std::vector<double>& seconds) { return static_cast<double>(2 * num_bytes) / median(seconds) / 1e6; };
  fmt::print(
      "read and written at once, MB/s of both together: plain loops, {} in flight each: {:.0f}; {} MiB chunks, {}: {:.0f}, {:.2f} of "
      "plain\n",
      kThreads, speed(plain), kChunk / kMiB, readers.files->description(), speed(lanes), median_ratio(plain, lanes));
}

void main_program(const std::string& folder, int64_t num_bytes, int rounds, const AioOptions& aio) {
  constexpr std::array kThreads{1, 2, 4, 8, 16};
  constexpr std::array<int64_t, 4> kChunks{kMiB, 4 * kMiB, 16 * kMiB, 64 * kMiB};
  PlainLoop plain(folder, num_bytes, aio.block_size);
  Arena arena = Arena::host_memory("chunk", kChunks.back());
  auto* memory = static_cast<std::byte*>(arena.allocate(kChunks.back(), "chunk"));
  Stream lane = Stream::worker("lane");
  std::vector<Contender> contenders;
  for (const bool is_uring : {true, false})
    for (const int64_t chunk : kChunks) {
      ScratchOptions options{.folders = {folder}, .aio = aio};
      if (!is_uring) options.aio.make_queue = thread_queues();
      contenders.push_back({"", chunk, std::make_unique<ScratchFiles>(options, std::vector<FileBuffer>{{"bench", num_bytes, chunk}})});
      contenders.back().name = fmt::format("{:3} MiB chunks, {}", chunk / kMiB, contenders.back().files->description());
      run(contenders.back(), true, num_bytes, lane, memory);
    }
  std::array<std::map<int, std::vector<double>>, 2> plain_seconds;
  std::array<std::vector<double>, 2> fio;
  for (int round = 0; round < rounds; ++round)
    for (const bool is_write : {false, true}) {
      const auto i = static_cast<size_t>(is_write);
      for (const int threads : kThreads) plain_seconds[i][threads].push_back(plain.run(is_write, threads));
      if (const double seconds = fio_seconds(is_write, folder, num_bytes, aio.block_size, aio.queue_depth); seconds > 0)
        fio[i].push_back(seconds);
      for (Contender& contender : contenders) contender.seconds[i].push_back(run(contender, is_write, num_bytes, lane, memory));
    }
  const bool has_fio = std::ssize(fio[0]) == rounds && std::ssize(fio[1]) == rounds;
  const auto speed = [&](const std::vector<double>& seconds) { return static_cast<double>(num_bytes) / median(seconds) / 1e6; };
  const auto best = [&](size_t i) {
    return std::min_element(plain_seconds[i].begin(), plain_seconds[i].end(),
                            [](const auto& a, const auto& b) { return median(a.second) < median(b.second); })
        ->second;
  };
  const auto ratio = [&](const Contender& c, size_t i) {
    return fmt::format("{:9.2f} {:>9}", median_ratio(best(i), c.seconds[i]),
                       has_fio ? fmt::format("{:.2f}", median_ratio(fio[i], c.seconds[i])) : "-");
  };
  fmt::print("{} MiB in {}, blocks of {} KiB; MB/s, and the ratios to the best plain loop and to fio\n", num_bytes / kMiB, folder,
             aio.block_size / 1024);
  fmt::print("{:80} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9}\n", "", "read", "of plain", "of fio", "write", "of plain", "of fio");
  for (const int threads : kThreads)
    fmt::print("{:80} {:9.0f} {:9} {:9} {:9.0f}\n", fmt::format("plain loop, {} in flight", threads), speed(plain_seconds[0][threads]), "",
               "", speed(plain_seconds[1][threads]));
  if (has_fio)
    fmt::print("{:80} {:9.0f} {:9} {:9} {:9.0f}\n", fmt::format("fio, io_uring, {} in flight", aio.queue_depth), speed(fio[0]), "", "",
               speed(fio[1]));
  for (const Contender& c : contenders)
    fmt::print("{:80} {:9.0f} {} {:9.0f} {}\n", c.name, speed(c.seconds[0]), ratio(c, 0), speed(c.seconds[1]), ratio(c, 1));
  contenders.clear();  // and their files
  compare_both_at_once(folder, num_bytes, rounds, aio);
}

}  // namespace
}  // namespace zerostep

int main(int argc, char** argv) {
  const auto number = [&](int i, int64_t otherwise) { return argc > i ? std::atoll(argv[i]) : otherwise; };
  const std::string folder = argc > 1 ? argv[1] : ".";
  const int64_t mebibytes = (number(2, 512) + 63) / 64 * 64;
  zerostep::main_program(folder, mebibytes << 20, static_cast<int>(number(3, 5)),
                         {.block_size = number(5, 1024) << 10, .queue_depth = static_cast<int>(number(4, 8))});
}
