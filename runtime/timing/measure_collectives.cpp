#include <algorithm>
#include <array>
#include <cstddef>
#include <optional>
#include <span>

#include "runtime/plan/plan.h"
#include "runtime/timing/measuring.h"
#include "sharding/lent_staging.h"

namespace zerostep {
namespace {

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
