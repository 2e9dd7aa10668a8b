#pragma once
#include <ATen/core/Tensor.h>

namespace zerostep {

// Says, for the backward passes that the calling thread runs in this scope, what pre-assigned gradients of parameters hold: fresh (garbage,
// to be overwritten) or the sums of earlier micro-batches (to be added to). Without a scope they are added to. Scopes nest.
class FreshGradients {
 public:
  explicit FreshGradients(bool fresh);
  ~FreshGradients();
  FreshGradients(const FreshGradients&) = delete;
  FreshGradients& operator=(const FreshGradients&) = delete;
  static bool active();

 private:
  bool outer_;
};

// x [..., in] times weight [in, out] plus bias [out] (or an undefined tensor). x and weight have one type; bias may be fp32 with a 16-bit
// weight. In the backward, where weight.grad() or bias.grad() is defined already, the gradient is written straight into it (as
// FreshGradients says) and none is handed to autograd; else it behaves as at::addmm does, to the bit.
at::Tensor linear(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias);

}  // namespace zerostep
