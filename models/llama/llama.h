#pragma once
#include <memory>
#include <string>

#include "models/llama/options.h"
#include "models/model.h"

namespace zerostep {

// LlamaForCausalLM or Qwen2ForCausalLM as units "embedding", "layers.0", ..., "head". Parameters in the order of named_parameters(); with a
// tied head the head borrows the embedding. InputError as make_model (models/model_options.h).
std::unique_ptr<ModelDefinition> make_llama(const LlamaOptions& options, const std::string& key_prefix = "model.");

// The config.json with which transformers loads the model.
std::string llama_hugging_face_config(const LlamaOptions& options);

}  // namespace zerostep
