#include "sharding/comm/rank_ordered_sums.h"

#include <algorithm>

#include "base/error.h"
#include "base/format.h"

namespace zerostep {

using Message = DeviceTransport::Message;

void RankOrderedSums::reduce_scatter(const Operation& operation, Stream& stream) { sum_parts(operation, stream); }

void RankOrderedSums::all_reduce(const Operation& operation, Stream& stream) {
  sum_parts(operation, stream);
  std::vector<Message> messages;
  for (const Segment& segment : operation.segments) {
    const auto bytes_of = [&](int peer) { return num_bytes(part_of(operation, segment, peer).count, operation.source_type); };
    for (int step = 1; step < size_; ++step) {
      const int to = (rank_ + step) % size_, from = (rank_ - step + size_) % size_;
      if (bytes_of(rank_) > 0) messages.push_back({to, place_of(operation, segment, rank_), bytes_of(rank_), false});
      if (bytes_of(from) > 0) messages.push_back({from, place_of(operation, segment, from), bytes_of(from), true});
    }
  }
  if (!messages.empty()) transport_.exchange(messages, stream);
}

SummedPart RankOrderedSums::part_of(const Operation& operation, const Segment& segment, int peer) const {
  if (operation.kind == CollectiveKind::ReduceScatter) return {peer * segment.count, segment.count};
  return summed_part(segment.count, peer, size_);
}

// Where the sum of a rank's part goes: a reduce-scatter has a target for it alone.
void* RankOrderedSums::place_of(const Operation& operation, const Segment& segment, int peer) const {
  if (operation.kind == CollectiveKind::ReduceScatter) return segment.target;
  return behind(segment.target, num_bytes(part_of(operation, segment, peer).begin, operation.target_type));
}

void RankOrderedSums::sum_parts(const Operation& operation, Stream& stream) {
  const int64_t lent = std::ssize(lent_), others = size_ - 1;
  const int64_t most = (lent - kAlignmentBytes) / others / num_bytes(1, operation.source_type) / 16 * 16;
  if (most <= 0)
    fail_protocol("{}: {} of memory are lent for the values of {} other ranks", Fingerprint(operation).describe(), human_bytes(lent),
                  others);
  std::vector<Window> round;
  int64_t used = 0;
  const auto flush = [&] {
    if (!round.empty()) sum_round(operation, round, stream);
    round.clear();
    used = 0;
  };
  for (const Segment& segment : operation.segments) {
    const int64_t longest = part_of(operation, segment, 0).count;
    void* const target = place_of(operation, segment, rank_);
    for (int64_t begin = 0; begin < longest; begin += most) {
      const int64_t count = std::min(most, longest - begin);
      const int64_t bytes = round_up(others * num_bytes(count, operation.source_type), kAlignmentBytes);
      if (used + bytes > lent) flush();
      round.push_back({&segment, begin, count, behind(target, num_bytes(begin, operation.target_type)), used});
      used += bytes;
    }
  }
  flush();
}

void RankOrderedSums::sum_round(const Operation& operation, const std::vector<Window>& round, Stream& stream) {
  const auto bytes = [&](int64_t count) { return num_bytes(count, operation.source_type); };
  const auto count_for = [&](const Window& w, int peer) {
    return std::clamp<int64_t>(part_of(operation, *w.segment, peer).count - w.at, 0, w.count);
  };
  const auto given_to = [&](const Window& w, int peer) {
    return behind(w.segment->source, bytes(part_of(operation, *w.segment, peer).begin + w.at));
  };
  std::vector<Message> messages;
  for (const Window& w : round) {
    for (int step = 1; step < size_; ++step) {
      const int to = (rank_ + step) % size_, from = (rank_ - step + size_) % size_;
      if (count_for(w, to) > 0) messages.push_back({to, given_to(w, to), bytes(count_for(w, to)), false});
      std::byte* const place = behind(lent_.data(), w.offset + bytes((from < rank_ ? from : from - 1) * w.count));
      if (count_for(w, rank_) > 0) messages.push_back({from, place, bytes(count_for(w, rank_)), true});
    }
  }
  transport_.exchange(messages, stream);
  for (const Window& w : round)
    transport_.sum({.own = given_to(w, rank_),
                    .others = lent_.data() + w.offset,
                    .stride = w.count,
                    .count = count_for(w, rank_),
                    .rank = rank_,
                    .num_ranks = size_,
                    .source_type = operation.source_type,
                    .target_type = operation.target_type,
                    .target = w.target,
                    .is_maximum = operation.op == ReduceOp::Max,
                    .accumulate = operation.accumulate},
                   stream);
}

}  // namespace zerostep
