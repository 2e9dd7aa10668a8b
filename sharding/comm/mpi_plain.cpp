#include "sharding/comm/mpi_plain.h"

#include <algorithm>
#include <cstring>

#include "sharding/comm/mpi_messages.h"
#include "sharding/comm/private_buffer.h"
#include "sharding/comm/reduce_kernels.h"

namespace zerostep {
namespace {

std::byte* bytes_at(void* base, int64_t offset) { return static_cast<std::byte*>(base) + offset; }
const std::byte* bytes_at(const void* base, int64_t offset) { return static_cast<const std::byte*>(base) + offset; }

constexpr double kStartSeconds = 60;  // ranks may start that much later than others, whatever a collective may take

// What every rank sends every other at the start of an operation; small operands travel with it.
struct Header {
  Fingerprint fingerprint;
  int64_t operation = 0;
  std::byte payload[Communicator::Impl::kSmallBytes];
};
static_assert(sizeof(Header) <= 8192, "a header is one message");

class PlainMpiCommunicator final : public Communicator::Impl {
 public:
  PlainMpiCommunicator(std::shared_ptr<MpiJob> job, std::vector<int> members, int rank, int group, const PlainMpiOptions& plain)
      : Impl(rank, static_cast<int>(members.size())),
        job_(std::move(job)),
        members_(std::move(members)),
        tags_(job_->tags(group)),
        plain_(plain) {}

  const char* backend() const override { return "mpi"; }

  void run(const Operation& operation) override {
    const Fingerprint fingerprint(operation);
    guarded(fingerprint, [&] {
      meet(fingerprint, nullptr, 0);
      for (const Segment& segment : operation.segments) {
        if (segment.count == 0) continue;
        switch (operation.kind) {
          case CollectiveKind::AllGather:
            all_gather(operation, fingerprint, segment);
            break;
          case CollectiveKind::ReduceScatter:
            reduce_scatter(operation, fingerprint, segment);
            break;
          case CollectiveKind::AllReduce:
            all_reduce(operation, fingerprint, segment);
            break;
          case CollectiveKind::Broadcast:
            broadcast(operation, fingerprint, segment);
            break;
          case CollectiveKind::Barrier:
            break;
        }
      }
    });
  }

  void gather_small(const Fingerprint& fingerprint, const void* mine, size_t num_bytes, void* all) override {
    guarded(fingerprint, [&] {
      if (num_bytes > kSmallBytes) fail_protocol("{}: more than {} bytes in one handshake", fingerprint.describe(), kSmallBytes);
      const std::shared_ptr<std::vector<Header>> headers = meet(fingerprint, mine, num_bytes);
      for (int peer = 0; peer < size() && num_bytes > 0; ++peer)
        std::memcpy(bytes_at(all, peer * static_cast<int64_t>(num_bytes)), (*headers)[static_cast<size_t>(peer)].payload, num_bytes);
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
    for (const int member : part.members) members.push_back(members_[static_cast<size_t>(member)]);
    return std::make_shared<PlainMpiCommunicator>(job_, std::move(members), part.rank, group, plain_);
  }

  void abort(const std::string& reason) override { job_->announce_failure(reason); }

 private:
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
    Header& mine = (*headers)[static_cast<size_t>(rank())];
    mine.fingerprint = fingerprint;
    mine.operation = operations_;
    if (num_bytes > 0) std::memcpy(mine.payload, payload, num_bytes);
    const auto bytes = static_cast<int64_t>(offsetof(Header, payload) + num_bytes);
    MpiMessages exchange = messages();
    exchange.keep(headers);
    for (int step = 1; step < size(); ++step) {
      const int peer = (rank() + step) % size();
      exchange.receive(peer, tags_.header, &(*headers)[static_cast<size_t>(peer)], sizeof(Header));
      exchange.send(peer, tags_.header, &mine, bytes);
    }
    exchange.wait(fingerprint);
    check_fingerprints(size(), operations_,
                       [&](int peer) -> const Fingerprint& { return (*headers)[static_cast<size_t>(peer)].fingerprint; });
    ++operations_;
    return headers;
  }

  void all_gather(const Operation& operation, const Fingerprint& fingerprint, const Segment& segment) {
    const int64_t bytes = num_bytes(segment.count, operation.source_type);
    MpiMessages exchange = messages();
    for (int step = 1; step < size(); ++step) {
      const int to = (rank() + step) % size(), from = (rank() - step + size()) % size();
      exchange.receive(from, tags_.data, bytes_at(segment.target, from * bytes), bytes);
      exchange.send(to, tags_.data, segment.source, bytes);
    }
    std::byte* own = bytes_at(segment.target, rank() * bytes);
    if (own != segment.source) std::memcpy(own, segment.source, static_cast<size_t>(bytes));
    exchange.wait(fingerprint);
  }

  // Sums part `rank` of every rank's source into the target. Part p is the elements [begin(p), begin(p) + count(p)).
  template <typename Part>
  void reduce_part(const Operation& operation, const Fingerprint& fingerprint, const void* source, void* target, const Part& part) {
    const int64_t element = static_cast<int64_t>(size_of(operation.source_type));
    const int64_t chunk = std::max<int64_t>(1, plain_.reduce_bytes / element / size());
    int64_t longest = 0;
    for (int peer = 0; peer < size(); ++peer) longest = std::max(longest, part(peer).second);
    const int64_t held = std::min(chunk, longest) * element;
    auto values = std::make_shared<PrivateBuffer>(static_cast<size_t>(held * size()));
    std::vector<const void*> sources(static_cast<size_t>(size()));
    // The chunk of part p that starts at `at`, empty past the end of a shorter part.
    const auto count_at = [&](int p, int64_t at) { return std::clamp<int64_t>(part(p).second - at, 0, chunk); };
    for (int64_t at = 0; at < longest; at += chunk) {
      MpiMessages exchange = messages();
      exchange.keep(values);
      const int64_t mine = count_at(rank(), at);
      for (int step = 1; step < size(); ++step) {
        const int to = (rank() + step) % size(), from = (rank() - step + size()) % size();
        exchange.receive(from, tags_.data, bytes_at(values->data(), from * held), mine * element);
        exchange.send(to, tags_.data, bytes_at(source, (part(to).first + at) * element), count_at(to, at) * element);
      }
      exchange.wait(fingerprint);
      for (int peer = 0; peer < size(); ++peer) sources[static_cast<size_t>(peer)] = bytes_at(values->data(), peer * held);
      sources[static_cast<size_t>(rank())] = bytes_at(source, (part(rank()).first + at) * element);
      reduce(sources.data(), size(), operation.source_type, bytes_at(target, num_bytes(at, operation.target_type)), operation.target_type,
             mine, operation.op, operation.accumulate, false);
    }
  }

  void reduce_scatter(const Operation& operation, const Fingerprint& fingerprint, const Segment& segment) {
    reduce_part(operation, fingerprint, segment.source, segment.target,
                [&](int peer) { return std::pair<int64_t, int64_t>(peer * segment.count, segment.count); });
  }

  void all_reduce(const Operation& operation, const Fingerprint& fingerprint, const Segment& segment) {
    const int64_t element = static_cast<int64_t>(size_of(operation.source_type));
    const int64_t each = (segment.count + size() - 1) / size();
    const auto part = [&](int peer) {
      const int64_t begin = std::min(segment.count, peer * each);
      return std::pair<int64_t, int64_t>(begin, std::min(segment.count, begin + each) - begin);
    };
    reduce_part(operation, fingerprint, segment.source, bytes_at(segment.target, part(rank()).first * element), part);
    MpiMessages exchange = messages();
    for (int step = 1; step < size(); ++step) {
      const int to = (rank() + step) % size(), from = (rank() - step + size()) % size();
      exchange.receive(from, tags_.data, bytes_at(segment.target, part(from).first * element), part(from).second * element);
      exchange.send(to, tags_.data, bytes_at(segment.target, part(rank()).first * element), part(rank()).second * element);
    }
    exchange.wait(fingerprint);
  }

  void broadcast(const Operation& operation, const Fingerprint& fingerprint, const Segment& segment) {
    const int64_t bytes = num_bytes(segment.count, operation.source_type);
    MpiMessages exchange = messages();
    if (rank() != operation.root) {
      exchange.receive(operation.root, tags_.data, segment.target, bytes);
    } else {
      for (int peer = 0; peer < size(); ++peer)
        if (peer != rank()) exchange.send(peer, tags_.data, segment.target, bytes);
    }
    exchange.wait(fingerprint);
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
