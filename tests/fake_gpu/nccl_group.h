#pragma once
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

// What the ranks of a communicator of the fake's NCCL share, threads of a process and processes of a machine alike.
namespace fake_gpu {

// Bytes from one rank to another, in order.
class NcclChannel {
 public:
  // Gives the next ones, or takes them: as many as there is room for, or as there are. Returns their number.
  size_t give(const std::byte* data, size_t num_bytes);
  size_t take(std::byte* data, size_t num_bytes);
  bool is_empty() const { return num_given_ == num_taken_; }

 private:
  std::atomic<uint64_t> num_given_, num_taken_;
  std::array<std::byte, size_t{1} << 16> bytes_;
};

constexpr int kMostNcclRanks = 16;

// Memory of zeros is one whose ranks have not come.
struct NcclGroup {
  std::atomic<int> size;
  std::array<std::atomic<int>, kMostNcclRanks> numbers;    // of each rank's device, from 1; 0: it has not come
  std::array<std::atomic<size_t>, kMostNcclRanks> hosts;   // what stands for each one's NCCL_HOSTID
  std::array<std::atomic<int64_t>, kMostNcclRanks> calls;  // of each rank that takes part
  std::atomic<bool> counts_differ;
  std::array<std::array<NcclChannel, kMostNcclRanks>, kMostNcclRanks> channels;  // [from][to]

  // The ranks that have come, as many as there are.
  bool is_complete() const;

  // A name for a new one, which has ranks as long as this process lives or until all have come.
  static std::string make();
  // nullptr: its process has ended.
  static std::shared_ptr<NcclGroup> open(const std::string& name);
  // All have come: what make() keeps for them is needed no more.
  static void forget(const std::string& name);
};

// What a rank does at once: it gives what others take, takes what they give, and then finishes.
struct NcclWork {
  struct Part {
    int peer;
    std::byte* data;
    size_t num_bytes;
  };
  std::vector<Part> sent, received;
  std::vector<std::function<void()>> finish;

  // Returns when it is done, or early when it `is_aborted`. Counts that differ end nothing, and are noted in the group.
  void run(NcclGroup& group, int rank, const std::atomic<bool>& is_aborted) const;
};

}  // namespace fake_gpu
