#include "runtime/memory/device_batch.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <atomic>
#include <map>

#include "runtime/engine/scalar_block.h"
#include "sharding/local_ranks.h"

namespace zerostep {
namespace {

constexpr at::Tensor Batch::*kTensors[] = {&Batch::tokens,       &Batch::labels,      &Batch::mask,          &Batch::positions,
                                           &Batch::document_ids, &Batch::token_types, &Batch::word_positions};

Batch full_batch() {
  Batch batch;
  for (at::Tensor Batch::*tensor : kTensors) batch.*tensor = at::arange(6).view({2, 3});
  batch.sample_ids = {4, 5};
  batch.valid_tokens = 6;
  return batch;
}

TEST(DeviceBatch, OfAProcessorIsTheSameTensors) {
  const Batch before = full_batch();
  Batch batch = before;
  bring_to_device({&batch}, Device::cpu());
  for (at::Tensor Batch::*tensor : kTensors) EXPECT_TRUE((batch.*tensor).is_same(before.*tensor));
}

TEST(ScalarBlock, GathersWhatStreamsAddAndIsReadAtOnce) {
  using Part = ScalarBlock::Part;
  const Device cpu = Device::cpu();
  Stream compute = cpu.stream("compute");
  const std::vector<PlannedBuffer> buffers{{{BufferKind::Scalars}, "scalars", 128, 1, 128, false}};
  run_local_ranks(1, {}, [&](Communicator world) {
    const Store store(buffers, world, cpu);
    ModelLayout layout;
    for (int id = 0; id < 3; ++id)
      layout.groups.push_back(
          FlatGroup{id, 0, "", {}, DType::F32, DType::F32, true, false, false, Tier::Device, Tier::Device, {}, FlatLayout({}, {})});
    ScalarBlock block(store, cpu, host_kernels(), layout, 6);
    block.clear(compute);
    compute.launch([&] {
      for (int i = 0; i < 3; ++i) block.tensor(Part::BackpropLoss).add_(at::full({}, 0.1f));
      block.tensor(Part::EvaluationLoss).add_(at::full({}, 1e-17, at::kDouble));
      block.tensor(Part::QuerySums).view({2, 3})[1][2].add_(5.0);
      block.data(Part::SquaredNorms)[2] = 3;
    });
    block.read(compute);
    const double tenth = 0.1f;  // added in fp64
    EXPECT_EQ(block.values(Part::BackpropLoss)[0], tenth + tenth + tenth);
    EXPECT_EQ(block.values(Part::EvaluationLoss)[0], 1e-17);
    const auto norms = block.values(Part::SquaredNorms), sums = block.values(Part::QuerySums);
    EXPECT_EQ(std::vector<double>(norms.begin(), norms.end()), (std::vector<double>{0, 0, 3}));
    EXPECT_EQ(std::vector<double>(sums.begin(), sums.end()), (std::vector<double>{0, 0, 0, 0, 0, 5}));
    // What was read stays until the next reading.
    block.clear(compute);
    compute.synchronize();
    EXPECT_EQ(block.values(Part::EvaluationLoss)[0], 1e-17);
    block.read(compute);
    EXPECT_EQ(block.values(Part::EvaluationLoss)[0], 0);
    compute.launch([] { throw std::runtime_error("broken"); });
    EXPECT_THROW(block.read(compute), std::runtime_error);
  });
}

}  // namespace
}  // namespace zerostep
