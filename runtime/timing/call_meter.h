#pragma once
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <utility>

#include "base/stream.h"
#include "sharding/communicator.h"

namespace zerostep {

// How long calls take.
struct CallTimer {
  // Seconds of so many calls, one after the other, until their work is done. Blocks; throws what they throw.
  std::function<double(int64_t count, const std::function<void()>& call)> seconds_of;
  double shortest_seconds = 0;  // calls are repeated so long, since less would measure the timer
};
// By the clock of the host: of calls whose work is done when they return.
CallTimer host_timer();
// Of calls that queue work on this stream, LibTorch's on its current one among it: of a GPU by marks around them, so that the host's waits
// do not count; of a processor by its clock.
CallTimer stream_timer(Stream stream);

// Times calls that all ranks of a group make at once. Every method is collective, blocks, and gives the same on every rank.
class CallMeter {
 public:
  explicit CallMeter(Communicator ranks) : ranks_(std::move(ranks)) {}

  // Seconds of a call: the median of repetitions that take about `budget` seconds, three at least where these take no more than twice the
  // budget, after calls that warm up; the mean over the ranks. `figure` names what it becomes, for take_spreads(). Calls that are short
  // are repeated within a repetition. `timer` says how long.
  double seconds_of(const std::string& figure, double budget, const std::function<void()>& call, const CallTimer& timer = host_timer());

  // By figure: how far the middle half of the repetitions lies apart, as a share of the median; the largest of those of one name since the
  // last call. Fewer than three repetitions tell nothing of that: it is infinite, so that they count as not steady.
  std::map<std::string, double> take_spreads() { return std::exchange(spreads_, {}); }

  // Whether it is so on any rank, and the least and the most of the ranks' values.
  bool any(bool is_so) { return most_of(is_so ? 1 : 0) == 1; }
  double least_of(double value) { return -most_of(-value); }
  double most_of(double value);
  const Communicator& ranks() const { return ranks_; }

 private:
  Communicator ranks_;
  std::map<std::string, double> spreads_;
};

}  // namespace zerostep
