#include "sharding/comm/shared_memory.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <map>
#include <mutex>

#include "base/nth.h"
#include "sharding/comm/peer_memory.h"
#include "sharding/comm/peer_process.h"
#include "sharding/comm/private_buffer.h"

namespace zerostep {
namespace {

using Exchange = std::function<std::vector<std::string>(const std::string&)>;

// Runs `attempt` on every rank and agrees on the outcome: "" when it has worked everywhere, else what the first rank that failed says.
std::string agree(const Exchange& exchange, const std::function<void()>& attempt) {
  std::string mine;
  try {
    attempt();
  } catch (const RunError& error) {
    mine = error.what();
  }
  for (const std::string& outcome : exchange(mine))
    if (!outcome.empty()) return outcome;
  return "";
}

// The control segment of a group, made by its first member. Every rank of `exchange` takes part, whichever group it is in.
std::shared_ptr<SharedSegment> make_control_segment(const Exchange& exchange, const SplitGroup& group, const SegmentPlaces& places) {
  std::string reasons;
  for (const std::string& place : places.places) {
    SharedSegment segment;
    std::string failure = agree(exchange, [&] {
      if (group.rank == 0)
        segment = SharedSegment::create(GroupControl::num_bytes(static_cast<int>(group.members.size()), true), place, places);
    });
    if (failure.empty()) {
      const std::vector<std::string> addresses = exchange(segment.address());
      failure = agree(exchange, [&] {
        if (group.rank != 0) segment = SharedSegment::open(nth(addresses, group.members[0]), true);
      });
    }
    segment.unlink_name();
    if (failure.empty()) return std::make_shared<SharedSegment>(std::move(segment));
    reasons += (reasons.empty() ? "" : "; ") + failure;
  }
  fail_run("{}", reasons);
}

// What the groups of one job share in a process: the buffers that it can read, and its peers' processes. Ranks are those of the first
// group.
struct SharedJob {
  struct Readable {
    const std::byte* data;
    size_t num_bytes;
  };
  struct Own {
    uint32_t serial;
    size_t num_bytes;
    std::vector<int> readers;  // sorted
  };

  int rank = 0;
  SegmentPlaces places;
  double timeout_seconds = 600;
  std::function<void()> on_lost_rank;
  std::vector<PeerProcess> processes;
  std::shared_ptr<SharedSegment> first_control;  // holds the record of failure that all groups watch
  GroupControl::FailureRecord* failure = nullptr;

  std::mutex mutex;
  uint32_t next_serial = 0;
  bool warned = false;
  std::map<std::pair<int, uint32_t>, Readable> readable;  // (owner, serial)
  std::map<const std::byte*, Own> own;                    // by first byte
};

class SharedBuffer final : public CommBuffer {
 public:
  SharedBuffer(std::shared_ptr<SharedJob> job, uint32_t serial, size_t num_bytes, SharedSegment mine, std::vector<int> readers,
               std::vector<std::pair<std::pair<int, uint32_t>, SharedSegment>> others)
      : job_(std::move(job)), num_bytes_(num_bytes), mine_(std::move(mine)), others_(std::move(others)) {
    std::lock_guard lock(job_->mutex);
    job_->own[data_bytes()] = {serial, num_bytes, std::move(readers)};
    for (const auto& [key, segment] : others_) job_->readable[key] = {static_cast<const std::byte*>(segment.data()), segment.num_bytes()};
  }
  ~SharedBuffer() override {
    std::lock_guard lock(job_->mutex);
    job_->own.erase(data_bytes());
    for (const auto& other : others_) job_->readable.erase(other.first);
  }
  void* data() const override { return mine_.data(); }
  size_t num_bytes() const override { return num_bytes_; }

 private:
  const std::byte* data_bytes() const { return static_cast<const std::byte*>(mine_.data()); }

  std::shared_ptr<SharedJob> job_;
  size_t num_bytes_;
  SharedSegment mine_;
  std::vector<std::pair<std::pair<int, uint32_t>, SharedSegment>> others_;
};

class SharedMemory final : public PeerMemory {
 public:
  SharedMemory(std::shared_ptr<SharedJob> job, std::shared_ptr<SharedSegment> control, std::vector<int> members, int rank)
      : PeerMemory(rank, static_cast<int>(members.size())),
        job_(std::move(job)),
        segment_(std::move(control)),
        members_(std::move(members)),
        control_(segment_->data(), rank, size(), options()) {
    sorted_members_ = members_;
    std::sort(sorted_members_.begin(), sorted_members_.end());
  }

  const char* backend() const override { return "mpi (shared memory)"; }
  GroupControl& control() override { return control_; }

  Operand publish(const void* operand, size_t num_bytes) override {
    const auto* begin = static_cast<const std::byte*>(operand);
    std::lock_guard lock(job_->mutex);
    auto after = job_->own.upper_bound(begin);
    if (after == job_->own.begin()) return {.buffer = Operand::kStaged};
    const auto& [data, buffer] = *std::prev(after);
    const auto offset = static_cast<size_t>(begin - data);
    const bool inside = offset <= buffer.num_bytes && num_bytes <= buffer.num_bytes - offset;
    if (!inside || !std::includes(buffer.readers.begin(), buffer.readers.end(), sorted_members_.begin(), sorted_members_.end()))
      return {.buffer = Operand::kStaged};
    return {.offset = offset, .buffer = buffer.serial, .owner = static_cast<uint32_t>(job_->rank)};
  }

  const std::byte* resolve(int rank, const Operand& operand) override {
    std::lock_guard lock(job_->mutex);
    const auto found = job_->readable.find({static_cast<int>(operand.owner), operand.buffer});
    if (found == job_->readable.end())
      fail_protocol(
          "rank {} uses an operand in a buffer that rank {} has freed: every rank keeps its part of a buffer until the last operation",
          rank, this->rank());
    return found->second.data + operand.offset;
  }

  std::shared_ptr<CommBuffer> allocate(PeerCommunicator& group, size_t num_bytes, const char* label) override {
    const Exchange exchange = [&](const std::string& text) { return group.gather_text(text, label); };
    uint32_t serial;
    {
      std::lock_guard lock(job_->mutex);
      serial = job_->next_serial++;
    }
    std::string reasons;
    for (const std::string& place : job_->places.places) {
      SharedSegment mine;
      std::vector<std::pair<std::pair<int, uint32_t>, SharedSegment>> others;
      std::string failure = agree(exchange, [&] { mine = SharedSegment::create(num_bytes, place, job_->places); });
      if (failure.empty()) {
        const std::vector<std::string> announcements = exchange(fmt::format("{} {}", serial, mine.address()));
        failure = agree(exchange, [&] {
          for (int peer = 0; peer < size(); ++peer) {
            if (peer == rank()) continue;
            const std::string& announcement = nth(announcements, peer);
            const size_t space = announcement.find(' ');
            const auto peer_serial = static_cast<uint32_t>(std::stoul(announcement.substr(0, space)));
            others.emplace_back(std::pair(nth(members_, peer), peer_serial), SharedSegment::open(announcement.substr(space + 1), false));
          }
        });
      }
      mine.unlink_name();
      if (failure.empty())
        return std::make_shared<SharedBuffer>(job_, serial, num_bytes, std::move(mine), sorted_members_, std::move(others));
      reasons += (reasons.empty() ? "" : "; ") + failure;
    }
    warn_once(label, num_bytes, reasons);
    return std::make_shared<PrivateBuffer>(num_bytes);
  }

  std::shared_ptr<PeerMemory> split(PeerCommunicator& group, const SplitGroup& part) override {
    const Exchange exchange = [&](const std::string& text) { return group.gather_text(text, "split"); };
    auto control = make_control_segment(exchange, part, job_->places);
    std::vector<int> members;
    for (const int member : part.members) members.push_back(nth(members_, member));
    return std::make_shared<SharedMemory>(job_, std::move(control), std::move(members), part.rank);
  }

 private:
  GroupControl::Options options() {
    return {.timeout_seconds = job_->timeout_seconds,
            .between_processes = true,
            .is_alive = [this](int rank) { return nth(job_->processes, nth(members_, rank)).is_alive(); },
            .on_lost_rank = job_->on_lost_rank,
            .job_failure = job_->failure,
            .job_rank = job_->rank};
  }

  void warn_once(const char* label, size_t num_bytes, const std::string& reasons) {
    std::lock_guard lock(job_->mutex);
    if (job_->rank == 0 && !job_->warned)
      spdlog::warn(
          "{} bytes of shared memory for '{}' are not to be had, so its collectives go through a small shared area, at about half the "
          "speed: {}",
          num_bytes, label, reasons);
    job_->warned = true;
  }

  std::shared_ptr<SharedJob> job_;
  std::shared_ptr<SharedSegment> segment_;
  std::vector<int> members_, sorted_members_;  // ranks of the first group
  GroupControl control_;
};

}  // namespace

std::shared_ptr<Communicator::Impl> make_shared_memory_communicator(const Bootstrap& bootstrap, const CommOptions& options,
                                                                    const SegmentPlaces& places, std::function<void()> on_lost_rank) {
  SplitGroup everybody;
  for (int rank = 0; rank < bootstrap.size; ++rank) everybody.members.push_back(rank);
  everybody.rank = bootstrap.rank;
  auto control = make_control_segment(bootstrap.exchange, everybody, places);

  auto job = std::make_shared<SharedJob>();
  job->rank = bootstrap.rank;
  job->places = places;
  job->timeout_seconds = options.timeout_seconds;
  job->on_lost_rank = std::move(on_lost_rank);
  for (const std::string& introduction : bootstrap.exchange(PeerProcess::introduce_myself())) job->processes.emplace_back(introduction);
  auto memory = std::make_shared<SharedMemory>(job, control, everybody.members, bootstrap.rank);
  job->first_control = std::move(control);
  job->failure = &memory->control().failure();
  return std::make_shared<PeerCommunicator>(std::move(memory));
}

}  // namespace zerostep
