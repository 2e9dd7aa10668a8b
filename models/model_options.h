#pragma once
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <variant>
#include <vector>

#include "models/bert/options.h"
#include "models/gpt2/options.h"
#include "models/llama/options.h"

namespace zerostep {

class ModelDefinition;

// The architectures that there are, each with its sizes: what a config.json says.
using ModelOptions = std::variant<Gpt2Options, LlamaOptions, BertOptions>;

// InputError when the options contradict each other; `key_prefix` stands before the keys in its message ("model." in a run's file).
std::unique_ptr<ModelDefinition> make_model(const ModelOptions& options, const std::string& key_prefix = "model.");
// Of the config.json of a directory, which messages name with its keys.
std::unique_ptr<ModelDefinition> make_model_of(const std::string& directory, const ModelOptions& options);

// What Hugging Face's config.json says; keys that are missing have the defaults of transformers. The names of transformers 4 and 5 are
// known. `where` stands in messages: InputError when a value is not of its type, or asks for what there is not.
ModelOptions parse_model_options(const nlohmann::json& config, const std::string& where);
// The config.json of a Hugging Face directory. InputError also for what is no such directory.
nlohmann::json read_model_config(const std::string& directory);

// Keys of a config.json that nothing here reads and that are not known to leave what the model computes as it is.
std::vector<std::string> unread_keys(const nlohmann::json& config);

// Sizes that every architecture has, and what its config.json calls them.
struct ModelSizes {
  const char* family;
  int64_t layers, width, heads, positions, vocabulary;
  const char *layers_name, *width_name, *heads_name, *positions_name;
  int64_t longest;   // tokens of a sample: all positions, of a RoBERTa those behind its padding's
  int64_t smallest;  // the shortest side of its matrices, vocabulary aside
};
ModelSizes sizes_of(const ModelOptions& options);
void set_vocabulary(ModelOptions& options, int64_t vocabulary);
// "eos_token_id" and the like for config.json, where the options do not say it themselves.
void set_special_token(ModelOptions& options, const char* key, int64_t token);

}  // namespace zerostep
