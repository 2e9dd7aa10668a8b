#pragma once
#include "models/llama/llama.h"

namespace zerostep::llama {

// The running units; parameters in the order that make_llama declares.
std::unique_ptr<Unit> make_embedding(const LlamaOptions& options, std::vector<at::Tensor> parameters);
std::unique_ptr<Unit> make_layer(const LlamaOptions& options, int index, std::vector<at::Tensor> parameters);
std::unique_ptr<Unit> make_head(const LlamaOptions& options, std::vector<at::Tensor> parameters);

}  // namespace zerostep::llama
