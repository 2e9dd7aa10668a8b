#pragma once
#include <ATen/core/Tensor.h>

#include <memory>
#include <vector>

#include "tests/support/benchmark_gpt2.h"

namespace zerostep::testing {

// GPT-2 as a user would write it over torch::nn's modules: what benchmarks compare with. No dropout.
class PlainGpt2 {
 public:
  explicit PlainGpt2(const Gpt2Options& options, at::ScalarType type = at::kFloat);
  at::Tensor logits(const at::Tensor& tokens);  // [B, T] -> [B, T, vocabulary]
  std::vector<at::Tensor> parameters() const;

 private:
  struct Modules;
  std::shared_ptr<Modules> modules_;
};

}  // namespace zerostep::testing
