#include "sharding/comm/mpi_plain.h"

#include <algorithm>
#include <cstring>

#include "base/nth.h"
#include "sharding/comm/exchange.h"
#include "sharding/comm/mpi_messages.h"
#include "sharding/comm/private_buffer.h"
#include "sharding/comm/reduce_kernels.h"

namespace zerostep {
namespace {

std::byte* bytes_at(void* base, int64_t offset) { return static_cast<std::byte*>(base) + offset; }
const std::byte* bytes_at(const void* base, int64_t offset) { return static_cast<const std::byte*>(base) + offset; }

constexpr int kTransfersInFlight = 128;  // that a rank gives at once in an exchange
constexpr double kStartSeconds = 60;     // ranks may start that much later than others, whatever a collective may take

// What every rank sends every other at the start of an operation; small operands travel with it.
struct Header {
  Fingerprint fingerprint;
  int64_t operation = 0;
  std::byte payload[Communicator::Impl::kSmallBytes];
};
static_assert(sizeof(Header) <= 8192, "a header is one message");

class PlainMpiCommunicator final : public HostCommunicator {
 public:
  PlainMpiCommunicator(std::shared_ptr<MpiJob> job, std::vector<int> members, int rank, int group, const PlainMpiOptions& plain)
      : HostCommunicator(rank, static_cast<int>(members.size())),
        job_(std::move(job)),
        members_(std::move(members)),
        tags_(job_->tags(group)),
        plain_(plain) {}

  const char* backend() const override { return "mpi"; }

  void gather_small(const Fingerprint& fingerprint, const void* mine, size_t num_bytes, void* all) override {
    guarded(fingerprint, [&] {
      if (num_bytes > kSmallBytes) fail_protocol("{}: more than {} bytes in one handshake", fingerprint.describe(), kSmallBytes);
      const std::shared_ptr<std::vector<Header>> headers = meet(fingerprint, mine, num_bytes);
      for (int peer = 0; peer < size() && num_bytes > 0; ++peer)
        std::memcpy(bytes_at(all, peer * static_cast<int64_t>(num_bytes)), nth(*headers, peer).payload, num_bytes);
    });
  }

  std::shared_ptr<CommBuffer> allocate(size_t num_bytes, const char*) override { return std::make_shared<PrivateBuffer>(num_bytes); }

  std::shared_ptr<Impl> split(int color, int key) override {
    const SplitGroup part = agree_on_split(*this, color, key);
    const int64_t next = job_->next_group();
    std::vector<int64_t> all(static_cast<size_t>(size()));
    gather_small(Fingerprint(CollectiveKind::AllGather, Fingerprint::kBytes, sizeof(next), ReduceOp::Sum, "split"), &next, sizeof(next),
                 all.data());
    const int group = static_cast<int>(*std::max_element(all.begin(), all.end()));
    job_->set_next_group(group + 1);
    std::vector<int> members;
    for (const int member : part.members) members.push_back(nth(members_, member));
    return std::make_shared<PlainMpiCommunicator>(job_, std::move(members), part.rank, group, plain_);
  }

  void abort(const std::string& reason) override { job_->announce_failure(reason); }
  void check_peers(const Fingerprint& what) override { job_->check_peers(what, members_, nth(members_, rank())); }

 private:
  void run(const Operation& operation) override {
    const Fingerprint fingerprint(operation);
    guarded(fingerprint, [&] {
      meet(fingerprint, nullptr, 0);
      switch (operation.kind) {
        case CollectiveKind::AllGather:
          return all_gather(operation, fingerprint);
        case CollectiveKind::ReduceScatter:
          return reduce_scatter(operation, fingerprint);
        case CollectiveKind::AllReduce:
          return all_reduce(operation, fingerprint);
        case CollectiveKind::Broadcast:
          return broadcast(operation, fingerprint);
        case CollectiveKind::Exchange:
          return exchange(operation, fingerprint);
        case CollectiveKind::Barrier:
          return;
      }
    });
  }

  template <typename Body>
  void guarded(const Fingerprint& fingerprint, Body&& body) {
    std::lock_guard lock(mutex_);
    job_->check(fingerprint);
    if (!failure_.empty()) fail_run("{} cannot run any more: {}", fingerprint.describe(), failure_);
    try {
      body();
    } catch (const std::exception& error) {
      failure_ = error.what();
      throw;
    }
  }

  MpiMessages messages() { return MpiMessages(*job_, members_, rank(), plain_.max_message_bytes); }

  std::shared_ptr<std::vector<Header>> meet(const Fingerprint& fingerprint, const void* payload, size_t num_bytes) {
    auto headers = std::make_shared<std::vector<Header>>(static_cast<size_t>(size()));
    Header& mine = nth(*headers, rank());
    mine.fingerprint = fingerprint;
    mine.operation = operations_;
    if (num_bytes > 0) std::memcpy(mine.payload, payload, num_bytes);
    const auto bytes = static_cast<int64_t>(offsetof(Header, payload) + num_bytes);
    MpiMessages exchange = messages();
    exchange.keep(headers);
    for (int step = 1; step < size(); ++step) {
      const int peer = (rank() + step) % size();
      exchange.receive(peer, tags_.header, &nth(*headers, peer), sizeof(Header));
      exchange.send(peer, tags_.header, &mine, bytes);
    }
    exchange.wait(fingerprint);
    check_fingerprints(size(), operations_, [&](int peer) -> const Fingerprint& { return nth(*headers, peer).fingerprint; });
    ++operations_;
    return headers;
  }

  void all_gather(const Operation& operation, const Fingerprint& fingerprint) {
    MpiMessages exchange = messages();
    for (const Segment& segment : operation.segments) {
      const int64_t bytes = num_bytes(segment.count, operation.source_type);
      for (int step = 1; step < size(); ++step) {
        const int to = (rank() + step) % size(), from = (rank() - step + size()) % size();
        exchange.receive(from, tags_.data, bytes_at(segment.target, from * bytes), bytes);
        exchange.send(to, tags_.data, segment.source, bytes);
      }
      std::byte* own = bytes_at(segment.target, rank() * bytes);
      if (own != segment.source && bytes > 0) std::memcpy(own, segment.source, static_cast<size_t>(bytes));
    }
    exchange.wait(fingerprint);
  }

  // The elements of a segment that a rank sums.
  struct Part {
    int64_t begin, count;
  };
  Part part_of(const Operation& operation, const Segment& segment, int peer) const {
    if (operation.kind == CollectiveKind::ReduceScatter) return {peer * segment.count, segment.count};
    const int64_t each = (segment.count + size() - 1) / size(), begin = std::min(segment.count, peer * each);
    return {begin, std::min(segment.count, begin + each) - begin};
  }

  // Elements [at, at + count) of every rank's part of a segment; fewer where a part ends before.
  struct Window {
    const Segment* segment;
    int64_t at, count;
    int64_t held_at;  // where the other ranks' values wait, rank after rank, in bytes
  };

  // Sums this rank's parts, in rounds that hold no more than reduce_bytes. target(segment) is where this rank's part of it goes.
  template <typename Target>
  void reduce_parts(const Operation& operation, const Fingerprint& fingerprint, const Target& target) {
    const int64_t element = static_cast<int64_t>(size_of(operation.source_type));
    const int64_t most = std::max<int64_t>(1, plain_.reduce_bytes / element / size());  // elements of a part in one round
    std::vector<Window> round;
    int64_t held = 0;
    const auto flush = [&] {
      if (!round.empty()) reduce_round(operation, fingerprint, round, held, target);
      round.clear();
      held = 0;
    };
    for (const Segment& segment : operation.segments) {
      const int64_t longest = part_of(operation, segment, 0).count;
      for (int64_t at = 0; at < longest; at += most) {
        const int64_t count = std::min(most, longest - at), bytes = count * element * size();
        if (held + bytes > plain_.reduce_bytes) flush();
        round.push_back({&segment, at, count, held});
        held += bytes;
      }
    }
    flush();
  }

  template <typename Target>
  void reduce_round(const Operation& operation, const Fingerprint& fingerprint, const std::vector<Window>& round, int64_t held,
                    const Target& target) {
    const int64_t element = static_cast<int64_t>(size_of(operation.source_type));
    const auto count_for = [&](const Window& window, int peer) {
      return std::clamp<int64_t>(part_of(operation, *window.segment, peer).count - window.at, 0, window.count);
    };
    const auto mine_at = [&](const Window& window, int peer) {
      return bytes_at(window.segment->source, (part_of(operation, *window.segment, peer).begin + window.at) * element);
    };
    auto values = std::make_shared<PrivateBuffer>(static_cast<size_t>(held));
    MpiMessages exchange = messages();
    exchange.keep(values);
    for (const Window& window : round) {
      for (int step = 1; step < size(); ++step) {
        const int to = (rank() + step) % size(), from = (rank() - step + size()) % size();
        exchange.receive(from, tags_.data, bytes_at(values->data(), window.held_at + from * window.count * element),
                         count_for(window, rank()) * element);
        exchange.send(to, tags_.data, mine_at(window, to), count_for(window, to) * element);
      }
    }
    exchange.wait(fingerprint);
    std::vector<const void*> sources(static_cast<size_t>(size()));
    for (const Window& window : round) {
      for (int peer = 0; peer < size(); ++peer)
        nth(sources, peer) = bytes_at(values->data(), window.held_at + peer * window.count * element);
      nth(sources, rank()) = mine_at(window, rank());
      reduce(sources.data(), size(), operation.source_type, bytes_at(target(*window.segment), num_bytes(window.at, operation.target_type)),
             operation.target_type, count_for(window, rank()), operation.op, operation.accumulate, false);
    }
  }

  void reduce_scatter(const Operation& operation, const Fingerprint& fingerprint) {
    reduce_parts(operation, fingerprint, [](const Segment& segment) { return segment.target; });
  }

  void all_reduce(const Operation& operation, const Fingerprint& fingerprint) {
    const int64_t element = static_cast<int64_t>(size_of(operation.source_type));
    const auto place = [&](const Segment& segment, int peer) {
      return bytes_at(segment.target, part_of(operation, segment, peer).begin * element);
    };
    reduce_parts(operation, fingerprint, [&](const Segment& segment) { return place(segment, rank()); });
    MpiMessages exchange = messages();
    for (const Segment& segment : operation.segments) {
      for (int step = 1; step < size(); ++step) {
        const int to = (rank() + step) % size(), from = (rank() - step + size()) % size();
        exchange.receive(from, tags_.data, place(segment, from), part_of(operation, segment, from).count * element);
        exchange.send(to, tags_.data, place(segment, rank()), part_of(operation, segment, rank()).count * element);
      }
    }
    exchange.wait(fingerprint);
  }

  void broadcast(const Operation& operation, const Fingerprint& fingerprint) {
    MpiMessages exchange = messages();
    for (const Segment& segment : operation.segments) {
      const int64_t bytes = num_bytes(segment.count, operation.source_type);
      if (rank() != operation.root) {
        exchange.receive(operation.root, tags_.data, segment.target, bytes);
      } else {
        for (int peer = 0; peer < size(); ++peer)
          if (peer != rank()) exchange.send(peer, tags_.data, segment.target, bytes);
      }
    }
    exchange.wait(fingerprint);
  }

  // Messages between two ranks arrive in the order of the list, which both follow.
  void exchange(const Operation& operation, const Fingerprint& fingerprint) {
    for (const std::vector<Transfer>& batch : batches_of(operation.transfers, size(), kTransfersInFlight)) {
      MpiMessages exchange = messages();
      for (const Transfer& transfer : batch) {
        const int64_t bytes = num_bytes(transfer.count, operation.source_type);
        if (transfer.from == transfer.to) {
          if (transfer.to == rank() && bytes > 0 && transfer.source != transfer.target)
            std::memcpy(transfer.target, transfer.source, static_cast<size_t>(bytes));
        } else if (transfer.from == rank()) {
          exchange.send(transfer.to, tags_.data, transfer.source, bytes);
        } else if (transfer.to == rank()) {
          exchange.receive(transfer.from, tags_.data, transfer.target, bytes);
        }
      }
      exchange.wait(fingerprint);
    }
  }

  std::shared_ptr<MpiJob> job_;
  const std::vector<int> members_;  // ranks of the session
  const MpiJob::Tags tags_;
  const PlainMpiOptions plain_;
  std::mutex mutex_;  // one operation at a time
  int64_t operations_ = 0;
  std::string failure_;
};

}  // namespace

std::shared_ptr<Communicator::Impl> make_plain_mpi_communicator(const MpiSession& session, const CommOptions& options,
                                                                const PlainMpiOptions& plain) {
  const std::shared_ptr<MpiSession::State>& state = session.state();
  auto job = std::make_shared<MpiJob>(state, state->next_group++, std::max(options.timeout_seconds, kStartSeconds));
  const int first_group = job->next_group();
  job->set_next_group(first_group + 1);
  std::vector<int> everybody;
  for (int rank = 0; rank < state->size; ++rank) everybody.push_back(rank);
  auto communicator = std::make_shared<PlainMpiCommunicator>(job, std::move(everybody), state->rank, first_group, plain);
  for (const std::string& introduction : communicator->gather_text(PeerProcess::introduce_myself(), "start"))
    job->processes.emplace_back(introduction);
  job->timeout_seconds = options.timeout_seconds;
  return communicator;
}

}  // namespace zerostep
