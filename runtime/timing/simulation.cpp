#include "runtime/timing/simulation.h"

#include <algorithm>
#include <limits>

#include "base/error.h"
#include "base/nth.h"

namespace zerostep {
namespace {

class LaneSimulation {
 public:
  LaneSimulation(const Plan& plan, const StreamsApart& apart, const std::vector<double>& seconds, const Machine& machine)
      : plan_(plan), apart_(apart), seconds_(seconds), machine_(machine), done_(plan.actions.size()), after_(plan.actions.size(), -1) {
    if (seconds.size() != plan.actions.size()) fail_protocol("[simulate] {} times of {} actions", seconds.size(), plan.actions.size());
    out_.actions.resize(plan.actions.size());
  }

  Simulation run() {
    put_into_streams();
    double now = 0;
    while (start_ready(now)) {
      const double step = next_end();
      now += step;
      advance(step, now);
    }
    for (const StreamState& stream : streams_)
      if (stream.next < stream.actions.size()) fail_protocol("[simulate] action {} waits for what never ends", stream.actions[stream.next]);
    out_.seconds = now;
    sum_up();
    return std::move(out_);
  }

 private:
  struct StreamState {
    std::vector<int> actions;
    size_t next = 0;       // to start
    bool is_busy = false;  // with the one before
    double left = 0;       // seconds of it, when it runs alone
  };

  void put_into_streams() {
    // The host launches in the order of the plan. On a processor it computes itself, elsewhere it waits where the ranks agree alone.
    int launched_after = -1;
    for (int i = 0; i < std::ssize(plan_.actions); ++i) {
      const Action& a = plan_.action(i);
      const Lane stream = stream_lane(a.lane, apart_);
      nth(streams_, stream).actions.push_back(i);
      nth(after_, i) = launched_after;
      if (machine_.host_is_device ? stream == Lane::Compute : a.kind == ActionKind::Agree) launched_after = i;
    }
  }

  // What an action starts after: the latest of them is what it waited for.
  template <typename Look>
  void for_each_before(const StreamState& stream, const Look& look) const {
    const int i = stream.actions[stream.next];
    if (stream.next > 0) look(stream.actions[stream.next - 1]);
    if (nth(after_, i) >= 0) look(nth(after_, i));
    for (const int other : plan_.action(i).waits) look(other);
  }

  // Starts what can start; those that take no time end at once. Whether anything is at work.
  bool start_ready(double now) {
    bool changed = true;
    while (changed) {
      changed = false;
      for (StreamState& stream : streams_) {
        while (!stream.is_busy && stream.next < stream.actions.size()) {
          bool ready = true;
          int last = -1;
          for_each_before(stream, [&](int other) {
            ready = ready && nth(done_, other);
            if (last < 0 || nth(out_.actions, other).end > nth(out_.actions, last).end) last = other;
          });
          if (!ready) break;
          const int i = stream.actions[stream.next++];
          nth(out_.actions, i).begin = now;
          nth(out_.actions, i).after = last;
          stream.left = nth(seconds_, i);
          stream.is_busy = stream.left > 0;
          if (!stream.is_busy) end(i, now);
          changed = true;
        }
      }
    }
    return std::any_of(streams_.begin(), streams_.end(), [](const StreamState& s) { return s.is_busy; });
  }

  void end(int i, double now) {
    nth(out_.actions, i).end = now;
    nth(done_, i) = true;
  }

  // Cores that a stream would use.
  double cores(int stream) const {
    const auto lane = static_cast<Lane>(stream);
    const bool computes = lane == Lane::Compute || lane == Lane::HostCompute;
    const bool copies = lane == Lane::Gather || lane == Lane::DeviceToHost || lane == Lane::HostToDevice;
    return computes ? machine_.threads_per_rank : copies ? 1 : 0;
  }
  // How fast those that use cores go.
  double speed() const {
    double wanted = 0;
    for (int s = 0; s < kLanes; ++s)
      if (nth(streams_, s).is_busy) wanted += cores(s);
    return machine_.lanes_share_cores && wanted > machine_.cores_per_rank ? machine_.cores_per_rank / wanted : 1;
  }
  // The disk serves reads and writes in turn, so that both move as many bytes.
  double speed(int stream) const {
    if (cores(stream) > 0) return speed();
    if (!nth(streams_, Lane::FileRead).is_busy || !nth(streams_, Lane::FileWrite).is_busy) return 1;
    const double reads = machine_.file_read.bytes_per_second, writes = machine_.file_write.bytes_per_second;
    return (static_cast<Lane>(stream) == Lane::FileRead ? writes : reads) / (reads + writes);
  }

  double next_end() const {
    double out = std::numeric_limits<double>::infinity();
    for (int s = 0; s < kLanes; ++s)
      if (nth(streams_, s).is_busy) out = std::min(out, nth(streams_, s).left / speed(s));
    return out;
  }

  void advance(double step, double now) {
    std::array<double, kLanes> worked = {};
    for (int s = 0; s < kLanes; ++s) nth(worked, s) = step * speed(s);
    for (int s = 0; s < kLanes; ++s) {
      StreamState& stream = nth(streams_, s);
      if (!stream.is_busy) continue;
      const int i = stream.actions[stream.next - 1];
      stream.left -= nth(worked, s);
      if (stream.left > 1e-9 * nth(seconds_, i)) continue;
      stream.is_busy = false;
      end(i, now);
    }
  }

  void sum_up() {
    int last = -1;
    for (int i = 0; i < std::ssize(out_.actions); ++i) {
      const SimulatedAction& a = nth(out_.actions, i);
      nth(out_.lane_seconds, plan_.action(i).lane) += a.end - a.begin;
      if (last < 0 || a.end > nth(out_.actions, last).end) last = i;
    }
    for (int i = last; i >= 0; i = nth(out_.actions, i).after) {
      const SimulatedAction& a = nth(out_.actions, i);
      nth(out_.bound_seconds, plan_.action(i).lane) += a.end - a.begin;
    }
    out_.bound_by = lane_with_most(out_.bound_seconds);
  }

  const Plan& plan_;
  const StreamsApart& apart_;
  const std::vector<double>& seconds_;
  const Machine& machine_;
  std::array<StreamState, kLanes> streams_;  // by the lane that each is called after
  std::vector<bool> done_;
  std::vector<int> after_;  // of each action the last one that the host waits for before it launches it; -1: none
  Simulation out_;
};

}  // namespace

Lane lane_with_most(const std::array<double, kLanes>& seconds) {
  return static_cast<Lane>(std::max_element(seconds.begin(), seconds.end()) - seconds.begin());
}

Simulation simulate(const Plan& plan, const StreamsApart& apart, const std::vector<double>& seconds, const Machine& machine) {
  return LaneSimulation(plan, apart, seconds, machine).run();
}

}  // namespace zerostep
