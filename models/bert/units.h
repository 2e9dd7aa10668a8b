#pragma once
#include "models/bert/bert.h"

namespace zerostep::bert {

// The running units; parameters in the order that make_bert declares.
std::unique_ptr<Unit> make_embedding(const BertOptions& options, std::vector<at::Tensor> parameters);
std::unique_ptr<Unit> make_layer(const BertOptions& options, int index, std::vector<at::Tensor> parameters);
std::unique_ptr<Unit> make_head(const BertOptions& options, std::vector<at::Tensor> parameters);
std::unique_ptr<Unit> make_word_prediction(const BertOptions& options, std::vector<at::Tensor> parameters);

}  // namespace zerostep::bert
