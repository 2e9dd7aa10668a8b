#include <ATen/ATen.h>
#include <c10/core/AutogradState.h>
#include <c10/cuda/CUDAStream.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <csignal>
#include <cstdlib>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "base/device.h"
#include "fake_gpu/fake_gpu.h"

// LibTorch's tensors on the fake GPU, whose memory is unreadable for the host throughout.
namespace fake_gpu {
namespace {

using zerostep::Arena;
using zerostep::Device;
using zerostep::MemoryKind;
using zerostep::Stream;

const at::Device kGpu(at::kCUDA, 0);

at::Tensor product_in_given_tensor(const at::Tensor& a, const at::Tensor& b) {
  at::Tensor out = at::empty({0}, a.options());
  at::mul_out(out, a, b);
  return out;
}

at::Tensor random(at::IntArrayRef sizes, at::ScalarType type = at::kFloat) { return (at::rand(sizes) - 0.5).to(type); }

// LibTorch keeps the memory that it has taken, so strict mode comes from the environment.
TEST(LibTorchOnFakeGpu, MemoryIsUnreadableForTheHost) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(
      {
        const at::Tensor tensor = at::ones({4}).to(kGpu);
        volatile float value = *static_cast<float*>(tensor.data_ptr());
        std::exit(value == 1 ? 0 : 1);
      },
      ::testing::KilledBySignal(SIGSEGV), "");
}

TEST(LibTorchOnFakeGpu, OperatorsGiveTheBitsOfTheProcessor) {
  using Operands = std::vector<at::Tensor>;
  struct Case {
    std::string name;
    std::function<at::Tensor(const Operands&)> run;
  };
  const at::Tensor tokens = at::randint(0, 6, {4, 5}, at::kLong);
  for (const at::ScalarType type : {at::kFloat, at::kBFloat16}) {
    const Operands operands = {random({6, 8}, type), random({8, 6}, type), random({2, 6, 8}, type), random({8}, type), tokens};
    for (const Case& c :
         {Case{"add", [](const Operands& o) { return at::add(o[0], o[3], 0.5); }},
          Case{"mm", [](const Operands& o) { return o[0].mm(o[1]); }},
          Case{"linear", [](const Operands& o) { return at::linear(o[2], o[0], o[3].narrow(0, 0, 6)); }},
          Case{"matmul of a transposed view", [](const Operands& o) { return at::matmul(o[2].transpose(1, 2), o[0]); }},
          Case{"softmax", [](const Operands& o) { return at::softmax(o[2], -1); }},
          Case{"layer norm", [](const Operands& o) { return at::layer_norm(o[2], {8}, o[3], o[3]); }},
          Case{"gelu", [](const Operands& o) { return at::gelu(o[0], "tanh"); }},
          Case{"embedding", [](const Operands& o) { return at::embedding(o[0], o[4]); }},
          Case{"cat",
               [](const Operands& o) {
                 return at::cat({o[0], o[1].t()}, 0);
               }},
          Case{"sum", [](const Operands& o) { return o[2].sum(-1); }}, Case{"index", [](const Operands& o) { return o[0].index({o[4]}); }},
          Case{"masked_fill", [](const Operands& o) { return o[0].masked_fill(o[0].lt(0), 3); }},
          Case{"where", [](const Operands& o) { return at::where(o[0].gt(0), o[0], o[0].neg()); }},
          Case{"topk", [](const Operands& o) { return std::get<1>(o[0].topk(3)); }},
          Case{"attention", [](const Operands& o) { return at::scaled_dot_product_attention(o[2], o[2], o[2]); }},
          Case{"in place", [](const Operands& o) { return o[0].clone().mul_(2).add_(o[3]); }},
          Case{"out", [](const Operands& o) { return product_in_given_tensor(o[0], o[3]); }}}) {
      Operands moved;
      for (const at::Tensor& operand : operands) moved.push_back(operand.to(kGpu));
      const at::Tensor found = c.run(moved), expected = c.run(operands);
      EXPECT_EQ(found.device(), kGpu) << c.name;
      EXPECT_TRUE(at::equal(found.cpu(), expected)) << c.name << " of " << toString(type);
    }
  }
}

TEST(LibTorchOnFakeGpu, CopiesChangeTypeAndLayout) {
  const at::Tensor values = random({5, 7});
  const at::Tensor moved = values.to(kGpu);
  EXPECT_TRUE(at::equal(moved.to(at::kBFloat16).cpu(), values.to(at::kBFloat16)));
  EXPECT_TRUE(at::equal(moved.t().contiguous().cpu(), values.t().contiguous()));
  EXPECT_TRUE(at::equal(at::empty({7, 5}, moved.options()).copy_(values.t()).cpu(), values.t()));
  EXPECT_EQ(moved.select(0, 2).select(0, 3).item<float>(), values.select(0, 2).select(0, 3).item<float>());
}

// As runtime/state does it: parameters are views of one flat storage, which is bound to one slot and then to another.
TEST(LibTorchOnFakeGpu, StoragesAreBoundToMemoryOfTheDevice) {
  const Device gpu = Device::cuda(0);
  Stream stream = gpu.compute_stream();
  Arena slots = gpu.memory("slots", 1024), pinned = gpu.memory("pinned", 512, MemoryKind::PinnedHost);
  void *const first = slots.allocate(512, "first"), *const second = slots.allocate(512, "second");
  auto* const host = static_cast<float*>(pinned.allocate(512, "host"));
  for (int i = 0; i < 128; ++i) host[i] = static_cast<float>(i);
  gpu.copy(stream, second, host, 512);
  stream
      .launch([&] {
        at::Tensor flat = at::empty({0}, at::TensorOptions().device(kGpu));
        flat.set_(c10::Storage(c10::Storage::use_byte_size_t(), 512, at::DataPtr(nullptr, kGpu), nullptr, false), 0, {128}, {1});
        const at::Tensor parameter = flat.narrow(0, 64, 16).view({4, 4}).variable_data();
        for (void* slot : {first, second}) {
          flat.storage().unsafeGetStorageImpl()->set_data_ptr_noswap(at::DataPtr(slot, kGpu));
          EXPECT_EQ(parameter.data_ptr(), static_cast<std::byte*>(slot) + 256);
          EXPECT_EQ(parameter.sum().item<float>(), slot == first ? 0.0f : 16 * 64 + 120.0f);
        }
      })
      .wait();
}

TEST(LibTorchOnFakeGpu, BackwardRunsInTheCallerOnTheStreamOfTheLaunch) {
  const Device gpu = Device::cuda(0);
  Stream stream = gpu.stream("backward");
  const at::Tensor weight = random({8, 8}), input = random({4, 8});
  std::thread::id thread;
  const auto gradient = [&](at::Device device) {
    const at::Tensor w = weight.clone().to(device).requires_grad_(true);
    const at::Tensor product = input.to(device).mm(w);
    product.register_hook([&](const at::Tensor&) { thread = std::this_thread::get_id(); });
    torch::autograd::backward({at::gelu(product).sum()}, {});
    return w.grad();
  };
  const at::Tensor expected = gradient(at::kCPU);
  at::Tensor found;
  stream
      .launch([&] {
        // Autograd has a thread of its own for a GPU, unless it may not.
        c10::AutogradState::get_tls_state().set_multithreading_enabled(false);
        thread = {};
        found = gradient(kGpu);
        EXPECT_EQ(thread, std::this_thread::get_id());
        EXPECT_TRUE(at::equal(found.cpu(), expected));
        EXPECT_EQ(c10::cuda::getCurrentCUDAStream().stream(), stream.native_handle());
        c10::AutogradState::get_tls_state().set_multithreading_enabled(true);
      })
      .wait();
  EXPECT_EQ(found.device(), kGpu);
}

// An operator reads what its own stream has brought, and waits for no other stream.
TEST(LibTorchOnFakeGpu, OperatorsFollowTheirStream) {
  const Device gpu = Device::cuda(0);
  Stream in = gpu.stream("in"), compute = gpu.compute_stream(), host = gpu.host_stream("host");
  Arena pinned = gpu.memory("pinned", 64, MemoryKind::PinnedHost);
  auto* const value = static_cast<float*>(pinned.allocate(4, "value"));
  at::Tensor tensor = at::zeros({1}).to(kGpu);
  in.wait(host.enqueue([=] { *value = 21; }));
  compute.wait(gpu.copy(in, tensor.data_ptr(), value, 4));
  at::Tensor twice;
  const int64_t waits = num_host_waits();
  compute.launch([&] { twice = tensor * 2; });
  EXPECT_EQ(num_host_waits(), waits);
  compute.synchronize();
  EXPECT_EQ(twice.item<float>(), 42);
}

}  // namespace
}  // namespace fake_gpu
