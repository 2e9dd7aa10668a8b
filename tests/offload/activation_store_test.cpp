#include "offload/activation_store.h"

#include <ATen/ops/arange.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <functional>
#include <string>
#include <vector>

#include "base/error.h"

namespace zerostep {
namespace {

std::string error_of(const std::function<void()>& body) {
  try {
    body();
  } catch (const ProtocolError& error) {
    return error.what();
  }
  return "";
}

TEST(ActivationStore, GivesBackWhatWasPutOnce) {
  ActivationStore store(3);
  const at::Tensor first = at::arange(4), second = at::arange(6);
  store.put(0, {});
  store.put(2, {first, second});
  EXPECT_TRUE(store.holds(0));
  EXPECT_FALSE(store.holds(1));
  EXPECT_TRUE(store.take(0).empty());
  const std::vector<at::Tensor> taken = store.take(2);
  ASSERT_EQ(taken.size(), 2u);
  EXPECT_TRUE(taken[0].is_same(first));
  EXPECT_TRUE(taken[1].is_same(second));
  EXPECT_FALSE(store.holds(2));
}

TEST(ActivationStore, KeepsNoTensorThatWasTakenOrDropped) {
  ActivationStore store(2);
  const at::Tensor tensor = at::arange(4);
  store.put(0, {tensor});
  store.put(1, {tensor});
  EXPECT_EQ(tensor.use_count(), 3u);
  store.take(0);
  EXPECT_EQ(tensor.use_count(), 2u);
  store.clear();
  EXPECT_EQ(tensor.use_count(), 1u);
  EXPECT_FALSE(store.holds(1));
}

TEST(ActivationStore, CopiesCheckpointsWhereAUnitHasMemoryForThem) {
  ActivationStore store(2);
  std::vector<std::byte> memory(256, std::byte{0xff});
  store.keep_in(1, memory);
  at::Tensor first = at::arange(6, at::kFloat).view({2, 3}), second = at::arange(4);
  const at::Tensor first_values = first.clone(), second_values = second.clone();
  for (int round = 0; round < 2; ++round) {
    store.put_checkpoint(1, {first, second});
    EXPECT_EQ(first.use_count(), 1u);
    EXPECT_EQ(reinterpret_cast<const float*>(memory.data())[5], 5.0f);
    EXPECT_EQ(reinterpret_cast<const int64_t*>(memory.data() + 64)[3], 3);
    const std::vector<at::Tensor> taken = store.take(1);
    ASSERT_EQ(taken.size(), 2u);
    std::fill(memory.begin(), memory.end(), std::byte{0xff});
    EXPECT_TRUE(taken[0].equal(first_values));
    EXPECT_TRUE(taken[1].equal(second_values));
  }
  // What a graph has is kept as it is, and so is a checkpoint of a unit without memory.
  store.put(1, {first});
  store.put_checkpoint(0, {first});
  EXPECT_TRUE(store.take(1)[0].is_same(first));
  EXPECT_TRUE(store.take(0)[0].is_same(first));
  EXPECT_NE(error_of([&] { store.put_checkpoint(1, {at::arange(33)}); }).find("input of unit 1 takes more than 256 bytes"),
            std::string::npos);
}

TEST(ActivationStore, MisuseNamesTheUnit) {
  ActivationStore store(2);
  store.put(1, {});
  EXPECT_NE(error_of([&] { store.put(1, {}); }).find("input of unit 1 is put twice"), std::string::npos);
  EXPECT_NE(error_of([&] { store.take(0); }).find("input of unit 0 is taken, which was not put"), std::string::npos);
  EXPECT_NE(error_of([&] { store.put(2, {}); }).find("unit 2 of 2"), std::string::npos);
}

}  // namespace
}  // namespace zerostep
