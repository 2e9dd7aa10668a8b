#include "offload/activation_store.h"

#include <ATen/ops/arange.h>
#include <gtest/gtest.h>

#include <functional>
#include <string>

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

TEST(ActivationStore, MisuseNamesTheUnit) {
  ActivationStore store(2);
  store.put(1, {});
  EXPECT_NE(error_of([&] { store.put(1, {}); }).find("input of unit 1 is put twice"), std::string::npos);
  EXPECT_NE(error_of([&] { store.take(0); }).find("input of unit 0 is taken, which was not put"), std::string::npos);
  EXPECT_NE(error_of([&] { store.put(2, {}); }).find("unit 2 of 2"), std::string::npos);
}

}  // namespace
}  // namespace zerostep
