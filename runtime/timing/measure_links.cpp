#include <algorithm>
#include <array>
#include <chrono>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "base/error.h"
#include "offload/scratch_files.h"
#include "runtime/plan/plan.h"
#include "runtime/timing/measuring.h"
#include "sharding/lent_staging.h"

namespace zerostep {
namespace {

void leave_out_files(Measuring& m, const std::string& failure) {
  m.machine().file_read = m.machine().file_write = {};
  m.measured.disk =
      fmt::format("left out, so that plans with files have no times: {}", failure.empty() ? "another rank has failed" : failure);
}

// Messages of memory that is not in a cache.
void measure_collectives(Measuring& m, Communicator& group, Link& gather, const char* gathers_figure, Link& reduce,
                         const char* reductions_figure, double seconds) {
  const int64_t size = group.size(), large = round_up(m.array_bytes / (4 * (size - 1)), kAlignmentBytes), small = kAlignmentBytes;
  const auto buffer = group.allocate(static_cast<size_t>(2 * size * large), "measurement");
  // A group of GPUs sums what has come of the other ranks, there.
  std::optional<Arena> staging;
  std::span<std::byte> lent;
  if (!m.device.is_host()) {
    const int64_t bytes = std::min(size * large, kMostRankValueBytes);
    staging.emplace(m.device.memory("values of other ranks", bytes));
    lent = {static_cast<std::byte*>(staging->allocate(bytes, "values")), static_cast<size_t>(bytes)};
  }
  const LentStaging staged(group, lent);
  auto* const whole = static_cast<std::byte*>(buffer->data());
  Stream stream = m.device.is_host() ? Stream::inline_stream() : m.device.stream("communication");
  const StreamDrain drain(stream);
  const CallTimer timer = stream_timer(stream);
  int64_t half = 0;
  const auto seconds_of = [&](bool gathers, int64_t bytes) {
    const auto call = [&] {
      std::byte* const all = whole + (half ^= 1) * size * large;
      std::byte* const own = all + group.rank() * bytes;
      const Segment segment = gathers ? Segment{own, all, bytes / 4} : Segment{all, own, bytes / 4};
      const Event done = gathers ? group.all_gather({&segment, 1}, DType::F32, stream, "measurement")
                                 : group.reduce_scatter({&segment, 1}, DType::F32, DType::F32, false, stream, "measurement");
      if (m.device.is_host()) done.wait();  // a GPU's stream goes on by itself
    };
    return m.meter.seconds_of(gathers ? gathers_figure : reductions_figure, 0.2 * seconds, call, timer);
  };
  const auto received = [&](int64_t bytes) { return static_cast<double>((size - 1) * bytes); };
  for (const bool gathers : {true, false}) {
    const double large_seconds = seconds_of(gathers, large);
    (gathers ? gather : reduce) = link_of(received(small), seconds_of(gathers, small), received(large), large_seconds);
  }
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

void measure_between_hosts(Measuring& m, double seconds) {
  Communicator ranks = m.meter.ranks();
  measure_collectives(m, ranks, m.machine().gather_across_hosts, figures::kGathersBetweenHosts, m.machine().reduce_across_hosts,
                      figures::kReductionsBetweenHosts, seconds);
}

void measure_within_host(Measuring& m, double seconds) {
  Communicator ranks = m.meter.ranks();
  Communicator host = ranks.size() > m.options.ranks_per_host ? ranks.split(m.options.first_of_host, ranks.rank()) : ranks;
  measure_collectives(m, host, m.machine().gather_in_host, figures::kGathersInHost, m.machine().reduce_in_host, figures::kReductionsInHost,
                      seconds);
  m.machine().agreement_seconds = m.meter.seconds_of(figures::kAgreements, 0.1 * seconds, [&] {
    std::array<double, 4> values{};
    host.all_reduce_scalars(values, ReduceOp::Sum, "measurement");
  });
}

}  // namespace zerostep
