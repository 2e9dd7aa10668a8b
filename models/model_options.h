#pragma once
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <variant>

#include "models/bert/options.h"
#include "models/gpt2/options.h"
#include "models/llama/options.h"

namespace zerostep {

class ModelDefinition;

// The architectures that there are, each with its sizes: what a config.json says.
using ModelOptions = std::variant<Gpt2Options, LlamaOptions, BertOptions>;

std::unique_ptr<ModelDefinition> make_model(const ModelOptions& options);

// What Hugging Face's config.json says; keys that are missing have the defaults of transformers. The names of transformers 4 and 5 are
// known. `where` stands in messages: InputError when a value is not of its type, or asks for what there is not.
ModelOptions parse_model_options(const nlohmann::json& config, const std::string& where);
// The config.json at `path`, likewise.
ModelOptions read_model_options(const std::string& path);

// An object in a JSON file. InputError naming the path.
nlohmann::json read_json_object(const std::string& path);

// The config.json with which transformers loads the model.
std::string hugging_face_config(const ModelOptions& options);

// Sizes that every architecture has, and what its config.json calls them.
struct ModelSizes {
  const char* family;
  int64_t layers, width, heads, positions, vocabulary;
  const char *layers_name, *width_name, *heads_name, *positions_name;
  int64_t smallest;  // the shortest side of its matrices, vocabulary aside
};
ModelSizes sizes_of(const ModelOptions& options);
void set_vocabulary(ModelOptions& options, int64_t vocabulary);

}  // namespace zerostep
