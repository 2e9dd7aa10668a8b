#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>
#include <tuple>

#include "models/safetensors.h"
#include "tests/launch/support/predict_case.h"

// Exports in 16 bit.
namespace zerostep::testing {
namespace {

using nlohmann::json;

// Rounded to nearest, of two as near to the even one: the bits are those of LibTorch's own conversion.
TEST_F(Predict, ExportsInSixteenBitAreRounded) {
  const std::string checkpoint = place_->path("runs/test/checkpoints/step_00000060");
  const SafetensorsFile whole(place_->path("model/model.safetensors"));
  for (const auto& [name, type, dtype] : {std::tuple{"bf16", "BF16", "bfloat16"}, {"fp16", "F16", "float16"}, {"fp32", "F32", "float32"}}) {
    const Outcome done = place_->run({"export", checkpoint, place_->path(name), "--dtype", name});
    ASSERT_EQ(done.status, 0) << done.err;
    EXPECT_EQ(json::parse(place_->read(std::string(name) + "/config.json"))["torch_dtype"], dtype);
    const SafetensorsFile rounded(place_->path(std::string(name) + "/model.safetensors"));
    ASSERT_EQ(rounded.tensors().size(), whole.tensors().size());
    for (const auto& [tensor, info] : whole.tensors()) {
      EXPECT_EQ(rounded.tensor(tensor).type, type);
      const auto count = static_cast<size_t>(info.num_elements());
      std::vector<float> expected(count), found(count);
      whole.read(tensor, 0, info.num_elements(), expected.data());
      rounded.read(tensor, 0, info.num_elements(), found.data());
      for (float& value : expected) {
        if (std::string(name) == "bf16") {
          // The nearest of the two values that have the upper 16 bits, or these and one more.
          uint32_t bits = 0;
          std::memcpy(&bits, &value, 4);
          bits = (bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000;
          std::memcpy(&value, &bits, 4);
        } else if (std::string(name) == "fp16") {
          // Ten bits behind the first; below 2^-14 a step is 2^-24.
          const double step = std::max(std::exp2(std::floor(std::log2(std::abs(static_cast<double>(value)))) - 10), 0x1p-24);
          value = value == 0 ? 0 : static_cast<float>(std::nearbyint(value / step) * step);
        }
      }
      EXPECT_EQ(found, expected) << name << " " << tensor;
    }
  }
  const auto size = [&](const char* name) { return static_cast<double>(place_->read(std::string(name) + "/model.safetensors").size()); };
  EXPECT_LT(size("bf16"), 0.6 * size("fp32"));
  EXPECT_LT(size("fp16"), 0.6 * size("fp32"));
  EXPECT_EQ(place_->read("fp32/model.safetensors"), place_->read("model/model.safetensors"));
  // It is a model to read as any.
  EXPECT_EQ(place_->run({"eval", place_->path("run.json"), "--checkpoint", place_->path("bf16")}).status, 0);
  const Outcome refused = place_->run({"export", checkpoint, place_->path("int8"), "--dtype", "int8"});
  EXPECT_EQ(refused.status, 2);
  EXPECT_SAYS(refused.err, "--dtype is 'int8'; expected fp32, bf16 or fp16");
  EXPECT_FALSE(place_->exists("int8"));
}

}  // namespace
}  // namespace zerostep::testing
