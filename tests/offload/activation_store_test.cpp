#include "offload/activation_store.h"

#include <ATen/ops/arange.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <string>
#include <vector>

#include "base/error.h"
#include "tests/support/expect_says.h"
#include "tests/support/message_of.h"

namespace zerostep {
namespace {

using testing::message_of;

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

TEST(ActivationStore, WhatIsStoredIsDroppedAndLoaded) {
  ActivationStore store(2);
  std::vector<std::byte> memory(128), slot(128);
  const at::Tensor first_values = at::arange(6, at::kFloat).view({2, 3}), second_values = at::arange(4);
  for (int round = 0; round < 2; ++round) {
    const at::Tensor first = first_values.clone(), second = second_values.clone();
    store.put(1, {first, second});
    store.store(1, memory);
    EXPECT_EQ(first.use_count(), 2u);
    store.drop(1);
    EXPECT_EQ(first.use_count(), 1u);
    EXPECT_EQ(reinterpret_cast<const float*>(memory.data())[5], 5.0f);
    EXPECT_EQ(reinterpret_cast<const int64_t*>(memory.data() + 64)[3], 3);
    EXPECT_TRUE(store.holds(1));
    store.load(1, slot.data());
    std::fill(memory.begin(), memory.end(), std::byte{0xff});
    const std::vector<at::Tensor> taken = store.take(1);
    EXPECT_FALSE(store.holds(1));
    ASSERT_EQ(taken.size(), 2u);
    EXPECT_EQ(taken[0].data_ptr(), slot.data());
    EXPECT_EQ(taken[1].data_ptr(), slot.data() + 64);
    EXPECT_TRUE(taken[0].equal(first_values));
    EXPECT_TRUE(taken[1].equal(second_values));
  }
}

TEST(ActivationStore, MisuseNamesTheUnit) {
  ActivationStore store(2);
  store.put(1, {});
  EXPECT_SAYS(message_of<ProtocolError>([&] { store.put(1, {}); }), "input of unit 1 is put twice");
  EXPECT_SAYS(message_of<ProtocolError>([&] { store.take(0); }), "input of unit 0 is taken, which was not put");
  EXPECT_SAYS(message_of<ProtocolError>([&] { store.drop(0); }), "input of unit 0 is dropped, which was not put");
  EXPECT_SAYS(message_of<ProtocolError>([&] { store.put(2, {}); }), "unit 2 of 2");
  std::vector<std::byte> memory(128);
  store.put(0, {at::arange(17)});
  EXPECT_SAYS(message_of<ProtocolError>([&] { store.load(0, memory.data()); }), "input of unit 0 is loaded, which was not stored");
  EXPECT_SAYS(message_of<ProtocolError>([&] { store.store(0, memory); }), "input of unit 0 takes more than 128 bytes");
  memory.resize(192);
  store.store(0, memory);
  EXPECT_SAYS(message_of<ProtocolError>([&] { store.take(0); }), "input of unit 0 is taken, which is stored and was not loaded");
}

}  // namespace
}  // namespace zerostep
