#pragma once
#include <string>
#include <string_view>

namespace zerostep {

// The classes of transformers that config.json names as the architecture, by its model_type: "LlamaForSequenceClassification" of "llama".
std::string sequence_classification(std::string_view family);
// "BertForMaskedLM" of "bert".
std::string masked_prediction(std::string_view family);

}  // namespace zerostep
