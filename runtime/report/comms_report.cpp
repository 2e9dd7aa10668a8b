#include "runtime/report/comms_report.h"

#include <array>

#include "base/format.h"

namespace zerostep {
namespace {

struct Named {
  const char* name;
  CommCounters::Entry CommCounters::*entry;
};
constexpr std::array kOperations{Named{"all_gather", &CommCounters::all_gather}, Named{"reduce_scatter", &CommCounters::reduce_scatter},
                                 Named{"all_reduce", &CommCounters::all_reduce}, Named{"broadcast", &CommCounters::broadcast},
                                 Named{"exchange", &CommCounters::exchange},     Named{"all_reduce_scalars", &CommCounters::scalars},
                                 Named{"barrier", &CommCounters::barrier}};

double gigabytes_per_second(const CommCounters::Entry& e) { return e.seconds > 0 ? static_cast<double>(e.bytes) / e.seconds / 1e9 : 0; }

}  // namespace

std::string comms_summary(const CommCounters& counters, int world) {
  std::string out = fmt::format("communication of this rank, {}\n", counted(world, "rank"));
  out += fmt::format("{:<20}{:>8}{:>18}{:>12}{:>14}{:>14}{:>14}{:>10}\n", "operation", "calls", "elements", "received", "a call",
                     "total ms", "average ms", "GB/s");
  for (const auto& [name, member] : kOperations) {
    const CommCounters::Entry& e = counters.*member;
    if (e.calls == 0) continue;
    out += fmt::format("{:<20}{:>8}{:>18}{:>12}{:>14}{:>14.2f}{:>14.3f}{:>10.2f}\n", name, e.calls, grouped(e.elements),
                       human_bytes(e.bytes), human_bytes(e.bytes / e.calls), e.seconds * 1e3,
                       e.seconds * 1e3 / static_cast<double>(e.calls), gigabytes_per_second(e));
  }
  return out;
}

std::string comms_of_step(const CommCounters& before, const CommCounters& after) {
  std::string out;
  for (const auto& [name, member] : kOperations) {
    CommCounters::Entry e = after.*member;
    const CommCounters::Entry& b = before.*member;
    e.calls -= b.calls;
    e.elements -= b.elements;
    e.bytes -= b.bytes;
    e.seconds -= b.seconds;
    if (e.calls == 0) continue;
    out += fmt::format("{}{} {} x, {}, {:.2f} ms, {:.2f} GB/s", out.empty() ? "comm | " : " | ", name, e.calls, human_bytes(e.bytes),
                       e.seconds * 1e3, gigabytes_per_second(e));
  }
  return out;
}

}  // namespace zerostep
