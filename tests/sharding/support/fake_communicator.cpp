#include "tests/sharding/support/fake_communicator.h"

#include <cstring>

#include "sharding/comm/impl.h"

namespace zerostep {
namespace {

class FakeBuffer final : public CommBuffer {
 public:
  explicit FakeBuffer(size_t num_bytes) : num_bytes_(num_bytes) {}
  void* data() const override { return nullptr; }
  size_t num_bytes() const override { return num_bytes_; }

 private:
  size_t num_bytes_;
};

class FakeCommunicator final : public HostCommunicator {
 public:
  using HostCommunicator::HostCommunicator;
  const char* backend() const override { return "fake"; }
  bool moves_data() const override { return false; }

  void gather_small(const Fingerprint&, const void* mine, size_t num_bytes, void* all) override {
    for (int i = 0; i < size() && num_bytes > 0; ++i)
      std::memcpy(static_cast<char*>(all) + static_cast<size_t>(i) * num_bytes, mine, num_bytes);
  }

  std::shared_ptr<CommBuffer> allocate(size_t num_bytes, const char*) override { return std::make_shared<FakeBuffer>(num_bytes); }

  std::shared_ptr<Impl> split(int color, int key) override {
    if (size() > 1)
      fail_protocol(
          "split({}, {}) of a fake communicator of {} ranks: the colors of the other ranks are unknown; give a function of the rank", color,
          key, size());
    return std::make_shared<FakeCommunicator>(0, 1);
  }

  std::shared_ptr<Impl> split(const std::function<std::pair<int, int>(int)>& color_and_key) override {
    const auto [color, key] = color_and_key(rank());
    int group_rank = 0, group_size = 0;
    for (int other = 0; other < size(); ++other) {
      const auto [other_color, other_key] = color_and_key(other);
      if (other_color != color) continue;
      ++group_size;
      if (std::pair(other_key, other) < std::pair(key, rank())) ++group_rank;
    }
    return std::make_shared<FakeCommunicator>(group_rank, group_size);
  }

  void abort(const std::string&) override {}

 private:
  void run(const Operation&) override {}
};

}  // namespace

Communicator make_fake_communicator(int rank, int size) {
  if (size < 1 || rank < 0 || rank >= size) fail_protocol("a fake communicator of {} ranks seen from rank {}", size, rank);
  return Communicator(std::make_shared<FakeCommunicator>(rank, size));
}

}  // namespace zerostep
