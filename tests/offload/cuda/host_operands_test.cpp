#include "offload/host_operands.h"

#include <gtest/gtest.h>

#include <cstring>
#include <optional>
#include <vector>

#include "base/half.h"
#include "offload/flat_kernels.h"
#include "tests/offload/support/host_kernels.h"

// Updates that the host makes of what lies on a GPU, against those of the same values in its own memory, bit by bit.
namespace zerostep {
namespace {

constexpr int64_t kSlotElements = 1000, kCount = 3 * kSlotElements + 77, kHalf = 1500;

// Bytes in memory of the host and, where they shall be there, in the GPU's.
class Operand {
 public:
  Operand(const Device& device, Stream& stream, std::vector<std::byte> bytes, bool is_there)
      : device_(device), stream_(stream), here(std::move(bytes)), expected(here) {
    if (!is_there) return;
    arena_.emplace(device.memory("operand", round_up(num_bytes(), kAlignmentBytes)));
    there_ = static_cast<std::byte*>(arena_->allocate(num_bytes(), "operand"));
    device_.copy(stream_, there_, here.data(), num_bytes()).wait();
  }
  int64_t num_bytes() const { return static_cast<int64_t>(here.size()); }
  template <typename T>
  T* given() {
    return reinterpret_cast<T*>(there_ != nullptr ? there_ : here.data());
  }
  template <typename T>
  T* wanted() {
    return reinterpret_cast<T*>(expected.data());
  }
  bool is_as_expected() {
    if (there_ != nullptr) device_.copy(stream_, here.data(), there_, num_bytes()).wait();
    return here == expected;
  }

 private:
  const Device& device_;
  Stream& stream_;
  std::optional<Arena> arena_;
  std::byte* there_ = nullptr;

 public:
  std::vector<std::byte> here, expected;
};

std::vector<std::byte> bytes_of(const std::vector<float>& values, DType type) {
  std::vector<std::byte> out(static_cast<size_t>(num_bytes(std::ssize(values), type)));
  for (size_t i = 0; i < values.size(); ++i) {
    const uint16_t half = bf16_from_fp32(values[i]);
    if (type == DType::F32)
      std::memcpy(out.data() + 4 * i, &values[i], 4);
    else
      std::memcpy(out.data() + 2 * i, &half, 2);
  }
  return out;
}

TEST(HostOperands, AreUpdatedAsInMemoryOfTheHost) {
  const Device gpu = Device::cuda(0);
  Stream stream = gpu.stream("test");
  Stream host = gpu.host_stream("host");
  const int64_t staging_bytes = HostOperands::kSlots * kSlotElements * HostOperands::kBytesOfElement;
  Arena pinned = gpu.memory("staging", staging_bytes, MemoryKind::PinnedHost);
  const auto staging = static_cast<std::byte*>(pinned.allocate(staging_bytes, "staging"));
  HostOperands operands(gpu, {staging, static_cast<size_t>(staging_bytes)});
  struct Case {
    const char* name;
    bool has_masters, is_16bit, masters_there, parameters_there, gradient_there;
  };
  for (const Case& c : {Case{"fp32", true, false, true, false, false},
                        {"fp32 and its gradient", true, false, true, false, true},
                        {"bf16 with masters here", true, true, false, true, false},
                        {"bf16 without masters", false, true, false, true, true},
                        {"a gradient alone", true, false, false, false, true},
                        {"nothing", true, true, false, false, false}}) {
    SCOPED_TRACE(c.name);
    const auto values = [](uint64_t seed) { return test::random_values(kCount, 1, seed); };
    std::vector<float> squares = values(5);
    for (float& x : squares) x *= x;
    Operand masters(gpu, stream, bytes_of(values(1), DType::F32), c.masters_there),
        parameters(gpu, stream, bytes_of(values(1), DType::BF16), c.parameters_there),
        gradient(gpu, stream, bytes_of(values(2), DType::F32), c.gradient_there),
        moments(gpu, stream, bytes_of(values(3), DType::F32), false), variances(gpu, stream, bytes_of(squares, DType::F32), false);
    const OptimizerFormula formula = AdamParameters{0.9, 0.999, 1e-8, 1e-3, 1.0, true};
    const auto update_of = [&](int64_t begin, int64_t count, const auto& at) {
      PieceUpdate update;
      update.piece = {.first = 64, .begin = begin, .count = count};
      update.type = c.is_16bit ? DType::BF16 : DType::F32;
      if (c.has_masters) update.masters = at(masters, float()) + begin;
      if (c.is_16bit) update.parameters = at(parameters, uint16_t()) + begin;
      update.gradient.reduced = at(gradient, float()) + begin;
      update.states = {at(moments, float()) + begin, at(variances, float()) + begin};
      update.lr = 1e-3f;
      update.weight_decay = 0.1f;
      update.rounding = {7, NoiseTag::Rounding, 3, 0};
      return update;
    };
    const auto given = [](Operand& operand, auto type) { return operand.given<decltype(type)>(); };
    const auto wanted = [](Operand& operand, auto type) { return operand.wanted<decltype(type)>(); };
    host.enqueue([&] {
          for (int step = 0; step < 2; ++step) {  // slots are used again
            operands.update(update_of(0, kHalf, given), formula, host);
            operands.update(update_of(kHalf, kCount - kHalf, given), formula, host);
            operands.finish(host);
          }
        })
        .wait();
    for (int step = 0; step < 2; ++step) host_kernels().update(update_of(0, kCount, wanted), formula, Stream::inline_stream());
    for (Operand* operand : {&masters, &parameters, &gradient, &moments, &variances}) EXPECT_TRUE(operand->is_as_expected());
    EXPECT_NE(moments.here, bytes_of(values(3), DType::F32));
  }
}

}  // namespace
}  // namespace zerostep
