#pragma once
#include "models/gpt2/gpt2.h"

namespace zerostep::gpt2 {

// The running units; parameters in the order that make_gpt2 declares.
std::unique_ptr<Unit> make_embedding(const Gpt2Options& options, std::vector<at::Tensor> parameters);
std::unique_ptr<Unit> make_block(const Gpt2Options& options, int index, std::vector<at::Tensor> parameters);
std::unique_ptr<Unit> make_head(const Gpt2Options& options, std::vector<at::Tensor> parameters);

}  // namespace zerostep::gpt2
