#include <algorithm>
#include <chrono>
#include <exception>
#include <memory>
#include <string>
#include <vector>

#include "offload/scratch_files.h"
#include "offload/scratch_folder.h"
#include "runtime/timing/measuring.h"

namespace zerostep {
namespace {

void leave_out_files(Measuring& m, const std::string& failure) {
  m.machine().file_read = m.machine().file_write = {};
  m.measured.disk =
      fmt::format("left out, so that plans with files have no times: {}", failure.empty() ? "another rank has failed" : failure);
}

}  // namespace

// In chunks as a plan has them, one after the other as its lanes do.
void measure_files(Measuring& m, double seconds) {
  constexpr int64_t kChunk = 16 * kMiB, kSmallChunk = 64 << 10;
  const int64_t chunks = std::max<int64_t>(2, static_cast<int64_t>(m.least * 16));
  std::string failure;
  const auto guarded = [&](const auto& work) {
    try {
      if (failure.empty()) work();
    } catch (const std::exception& error) {
      failure = error.what();
    }
  };
  Arena memory = m.device.memory("measurement", kChunk, MemoryKind::PinnedHost);
  auto* const chunk = static_cast<std::byte*>(memory.allocate(kChunk, "chunk"));
  std::unique_ptr<ScratchFiles> files;
  const int64_t room = free_room({&m.options.scratch_folder, 1});
  m.machine().file_bytes = m.least_capacity(room == INT64_MAX ? 0 : room, m.options.ranks_per_host);
  guarded([&] {
    ScratchOptions options;
    options.key = "--scratch";
    options.folders = {m.options.scratch_folder};
    options.rank = m.meter.ranks().rank();
    options.warn = [](const std::string&) {};
    files = std::make_unique<ScratchFiles>(
        options, std::vector<FileBuffer>{{"large", chunks * kChunk, kChunk}, {"small", chunks * kSmallChunk, kSmallChunk}});
  });
  if (m.meter.any(!failure.empty())) return leave_out_files(m, failure);
  Stream lane = Stream::inline_stream();
  // The first write of a place in a new file takes longer than those that follow, which are what training waits for. A slow disk has
  // fewer places.
  const auto start = std::chrono::steady_clock::now();
  int places = 0;
  do guarded([&] { files->write(lane, 0, places, chunk).wait(); });
  while (++places < chunks && std::chrono::steady_clock::now() - start < std::chrono::duration<double>(0.2 * seconds));
  const auto seconds_of = [&](bool is_write, int buffer) {
    int next = 0;
    return m.meter.seconds_of(is_write ? figures::kFileWrites : figures::kFileReads, seconds * (buffer == 0 ? 0.4 : 0.1), [&] {
      const int at = next++ % places;
      guarded([&] { (is_write ? files->write(lane, buffer, at, chunk) : files->read(lane, buffer, at, chunk)).wait(); });
    });
  };
  for (const bool is_write : {true, false}) {
    const double large = seconds_of(is_write, 0), small = seconds_of(is_write, 1);
    (is_write ? m.machine().file_write : m.machine().file_read) =
        link_of(static_cast<double>(kSmallChunk), small, static_cast<double>(kChunk), large);
  }
  if (m.meter.any(!failure.empty())) return leave_out_files(m, failure);
  m.measured.disk = fmt::format("{}: {}", m.options.scratch_folder, files->description());
}

}  // namespace zerostep
