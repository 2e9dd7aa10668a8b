#include "fake_gpu/nccl_group.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <map>
#include <mutex>
#include <set>
#include <thread>
#include <utility>

namespace fake_gpu {
namespace {

static_assert(std::atomic<uint64_t>::is_always_lock_free && std::atomic<int>::is_always_lock_free, "processes share them");

// Files without names of the groups that this process has made and whose ranks have not all come.
struct Files {
  std::mutex mutex;
  std::map<std::string, int> made;
  int64_t num_made = 0;
};
Files& files() {
  static auto* const all = new Files;
  return *all;
}

// A part on its way, behind its size.
class Transfer {
 public:
  Transfer(NcclGroup& group, NcclChannel& channel, const NcclWork::Part& part, bool is_sent)
      : group_(group), channel_(channel), part_(part), is_sent_(is_sent), size_(part.num_bytes) {}

  // Moves what can be moved; whether anything could.
  bool go_on() {
    std::byte* const size = reinterpret_cast<std::byte*>(&size_);
    size_t moved = 0;
    if (num_moved_ < sizeof size_) moved = move(size + num_moved_, sizeof size_ - num_moved_);
    num_moved_ += moved;
    if (num_moved_ < sizeof size_) return moved > 0;
    if (size_ != part_.num_bytes) {
      group_.counts_differ = true;
      return false;
    }
    const size_t at = num_moved_ - sizeof size_, more = at < size_ ? move(part_.data + at, size_ - at) : 0;
    num_moved_ += more;
    return moved + more > 0;
  }
  bool has_ended() const {
    return num_moved_ == sizeof size_ + part_.num_bytes && size_ == part_.num_bytes && (!is_sent_ || channel_.is_empty());
  }
  // Only one of those that share it is on its way.
  std::pair<const NcclChannel*, bool> place() const { return {&channel_, is_sent_}; }

 private:
  size_t move(std::byte* data, size_t num_bytes) { return is_sent_ ? channel_.give(data, num_bytes) : channel_.take(data, num_bytes); }

  NcclGroup& group_;
  NcclChannel& channel_;
  const NcclWork::Part& part_;
  bool is_sent_;
  uint64_t size_;
  size_t num_moved_ = 0;
};

}  // namespace

size_t NcclChannel::give(const std::byte* data, size_t num_bytes) {
  const uint64_t begin = num_given_, room = bytes_.size() - (begin - num_taken_);
  const size_t at = begin % bytes_.size(), num = std::min({num_bytes, size_t{room}, bytes_.size() - at});
  std::memcpy(bytes_.data() + at, data, num);
  num_given_ = begin + num;
  return num;
}

size_t NcclChannel::take(std::byte* data, size_t num_bytes) {
  const uint64_t begin = num_taken_, there = num_given_ - begin;
  const size_t at = begin % bytes_.size(), num = std::min({num_bytes, size_t{there}, bytes_.size() - at});
  std::memcpy(data, bytes_.data() + at, num);
  num_taken_ = begin + num;
  return num;
}

bool NcclGroup::is_complete() const {
  return std::all_of(numbers.begin(), numbers.begin() + size, [](const std::atomic<int>& number) { return number != 0; });
}

std::string NcclGroup::make() {
  const int file = ::memfd_create("fake nccl", MFD_CLOEXEC);
  if (file < 0 || ::ftruncate(file, sizeof(NcclGroup)) != 0) return "";
  std::lock_guard lock(files().mutex);
  // The number of the file alone may be that of a later one.
  std::string name = "/proc/" + std::to_string(::getpid()) + "/fd/" + std::to_string(file) + " " + std::to_string(++files().num_made);
  files().made[name] = file;
  return name;
}

std::shared_ptr<NcclGroup> NcclGroup::open(const std::string& name) {
  const int file = ::open(name.substr(0, name.find(' ')).c_str(), O_RDWR | O_CLOEXEC);
  if (file < 0) return nullptr;
  void* const memory = ::mmap(nullptr, sizeof(NcclGroup), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  ::close(file);
  if (memory == MAP_FAILED) return nullptr;
  return {static_cast<NcclGroup*>(memory), [](NcclGroup* group) { ::munmap(group, sizeof(NcclGroup)); }};
}

void NcclGroup::forget(const std::string& name) {
  std::lock_guard lock(files().mutex);
  const auto found = files().made.find(name);
  if (found == files().made.end()) return;
  ::close(found->second);
  files().made.erase(found);
}

void NcclWork::run(NcclGroup& group, int rank, const std::atomic<bool>& is_aborted) const {
  constexpr auto kPause = std::chrono::microseconds(20);
  std::vector<Transfer> transfers;
  for (const Part& part : sent) transfers.emplace_back(group, group.channels[rank][part.peer], part, true);
  for (const Part& part : received) transfers.emplace_back(group, group.channels[part.peer][rank], part, false);
  for (bool is_done = false; !is_done;) {
    if (is_aborted) return;
    std::set<std::pair<const NcclChannel*, bool>> taken;
    bool moves = false;
    is_done = true;
    for (Transfer& transfer : transfers) {
      if (transfer.has_ended()) continue;
      is_done = false;
      if (taken.insert(transfer.place()).second) moves |= transfer.go_on();
    }
    if (!is_done && !moves) std::this_thread::sleep_for(kPause);
  }
  for (const auto& last : finish) last();
}

}  // namespace fake_gpu
