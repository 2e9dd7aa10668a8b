#include <exception>
#include <map>
#include <mutex>
#include <optional>
#include <system_error>
#include <thread>

#include "sharding/comm/peer_memory.h"
#include "sharding/comm/private_buffer.h"
#include "sharding/local_ranks.h"

namespace zerostep {
namespace {

// What the threads of a group share.
struct LocalGroup {
  LocalGroup(int size, std::shared_ptr<LocalGroup> first)
      : size(size), memory(GroupControl::num_bytes(size, false)), first(std::move(first)) {}
  int size;
  PrivateBuffer memory;
  std::shared_ptr<LocalGroup> first;  // that of the first communicator; null in it
  std::mutex mutex;
  std::map<int, std::shared_ptr<LocalGroup>> made;  // by the rank that makes it, while it is split from this one
};

// Hands a group to its members for as long as it lives. They take it under the mutex: the maker may fail meanwhile.
class OfferedGroup {
 public:
  OfferedGroup(LocalGroup& from, int maker, std::shared_ptr<LocalGroup> made) : from_(from), maker_(maker) {
    std::lock_guard lock(from_.mutex);
    from_.made[maker_] = std::move(made);
  }
  ~OfferedGroup() {
    std::lock_guard lock(from_.mutex);
    from_.made.erase(maker_);
  }
  OfferedGroup(const OfferedGroup&) = delete;
  OfferedGroup& operator=(const OfferedGroup&) = delete;

 private:
  LocalGroup& from_;
  int maker_;
};

class LocalMemory final : public PeerMemory {
 public:
  LocalMemory(std::shared_ptr<LocalGroup> group, int rank, GroupControl::Options options)
      : PeerMemory(rank, group->size),
        group_(std::move(group)),
        options_(options),
        control_(group_->memory.data(), rank, size(), std::move(options)) {}

  const char* backend() const override { return "local"; }
  bool shares_process() const override { return (group_->first ? group_->first : group_)->size > 1; }
  GroupControl& control() override { return control_; }

  Operand publish(const void* operand, size_t) override { return {.offset = reinterpret_cast<uint64_t>(operand)}; }
  const std::byte* resolve(int, const Operand& operand) override { return reinterpret_cast<const std::byte*>(operand.offset); }

  std::shared_ptr<CommBuffer> allocate(PeerCommunicator&, size_t num_bytes, const char*) override {
    return std::make_shared<PrivateBuffer>(num_bytes);
  }

  std::shared_ptr<PeerMemory> split(PeerCommunicator& group, const SplitGroup& members) override {
    std::optional<OfferedGroup> offered;
    if (members.rank == 0)
      offered.emplace(*group_, rank(),
                      std::make_shared<LocalGroup>(static_cast<int>(members.members.size()), group_->first ? group_->first : group_));
    const Fingerprint handshake(CollectiveKind::Barrier, Fingerprint::kBytes, 0, ReduceOp::Sum, "split");
    group.gather_small(handshake, nullptr, 0, nullptr);
    std::shared_ptr<LocalGroup> mine;
    {
      std::lock_guard lock(group_->mutex);
      if (const auto found = group_->made.find(members.members[0]); found != group_->made.end()) mine = found->second;
    }
    group.gather_small(handshake, nullptr, 0, nullptr);  // the makers offer their group until everybody has it
    if (!mine) fail_protocol("rank {} was offered no group by rank {}", rank(), members.members[0]);
    GroupControl::Options options = options_;
    options.job_failure = control_.job_failure();
    options.job_rank = control_.job_rank();
    return std::make_shared<LocalMemory>(std::move(mine), members.rank, std::move(options));
  }

 private:
  std::shared_ptr<LocalGroup> group_;
  GroupControl::Options options_;
  GroupControl control_;
};

std::shared_ptr<Communicator::Impl> make_rank(const std::shared_ptr<LocalGroup>& group, int rank, const CommOptions& options) {
  GroupControl::Options control;
  control.timeout_seconds = options.timeout_seconds;
  return std::make_shared<PeerCommunicator>(std::make_shared<LocalMemory>(group, rank, std::move(control)));
}

}  // namespace

std::shared_ptr<Communicator::Impl> make_lone_communicator(const CommOptions& options) {
  return make_rank(std::make_shared<LocalGroup>(1, nullptr), 0, options);
}

void run_local_ranks(int size, const CommOptions& options, const std::function<void(Communicator)>& body) {
  if (size < 1) fail_protocol("run_local_ranks with {} ranks", size);
  auto group = std::make_shared<LocalGroup>(size, nullptr);
  std::mutex mutex;
  std::exception_ptr failure, echo;
  const auto run_rank = [&](int rank) {
    Communicator world(make_rank(group, rank, options));
    const auto failed = [&](std::exception_ptr& place, const std::string& reason) {
      {
        std::lock_guard lock(mutex);
        if (!place) place = std::current_exception();
      }
      world.abort(reason);
    };
    try {
      body(world);
    } catch (const PeerError& error) {
      failed(echo, error.what());
    } catch (const std::exception& error) {
      failed(failure, error.what());
    } catch (...) {
      failed(failure, "an exception of an unknown type");
    }
  };
  std::vector<std::thread> threads;
  threads.reserve(static_cast<size_t>(size));
  for (int rank = 0; rank < size; ++rank) {
    try {
      threads.emplace_back(run_rank, rank);
    } catch (const std::system_error& error) {
      // The ranks that run wait for this one: they are told, and end.
      const std::string reason = fmt::format(
          "the thread of rank {} of {} could not be started: {}. Lower the number of ranks or raise the limits of processes and memory "
          "(ulimit -u, ulimit -v)",
          rank, size, error.what());
      make_rank(group, rank, options)->abort(reason);
      const std::lock_guard lock(mutex);
      failure = std::make_exception_ptr(RunError(reason));
      break;
    }
  }
  for (std::thread& thread : threads) thread.join();
  if (failure) std::rethrow_exception(failure);
  if (echo) std::rethrow_exception(echo);
}

}  // namespace zerostep
