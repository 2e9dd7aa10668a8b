#pragma once
#include <memory>
#include <string>

#include "models/bert/options.h"
#include "models/model.h"

namespace zerostep {

// BertForSequenceClassification, RobertaForSequenceClassification or DistilBertForSequenceClassification as units "embedding", "layer.0",
// ..., "head", whose output is logits [B, num_labels]; with mean pooling the same without the dense layer before the classifier. Or
// BertForMaskedLM and its like, whose "head" uses the embedding's table of words and gives logits [B, T, vocabulary]. Parameters in the
// order of named_parameters(). InputError as make_model (models/model_options.h).
std::unique_ptr<ModelDefinition> make_bert(const BertOptions& options, const std::string& key_prefix = "model.");

// The config.json with which transformers loads the model.
std::string bert_hugging_face_config(const BertOptions& options);

}  // namespace zerostep
