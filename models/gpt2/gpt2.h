#pragma once
#include <string>
#include <vector>

#include "models/gpt2/options.h"
#include "models/model.h"

namespace zerostep {

// Sizes with a name; the vocabulary is free (50257 where nothing is said).
struct Gpt2Preset {
  std::string name;
  int64_t n_layer, n_embd, n_head, n_positions;
};
const std::vector<Gpt2Preset>& gpt2_presets();

// GPT2LMHeadModel as units "embedding", "h.0", ..., "head". Parameters in the order of named_parameters(); with a tied head the head
// borrows wte. InputError as make_model (models/model_options.h).
std::unique_ptr<ModelDefinition> make_gpt2(const Gpt2Options& options, const std::string& key_prefix = "model.");

// The config.json with which transformers loads the model.
std::string gpt2_hugging_face_config(const Gpt2Options& options);

}  // namespace zerostep
