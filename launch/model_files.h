#pragma once
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "launch/subject.h"
#include "models/tokenizer/tokenizer.h"
#include "models/unit.h"
#include "runtime/config/config.h"
#include "runtime/engine/engine.h"

namespace zerostep {

// The values that training starts from: those in model.path, or those that the seed alone determines.
ParameterReader starting_values(const Subject& subject);

// Makes the directory for a model. InputError when it cannot be made or written.
void make_model_directory(const std::string& directory);
// Writes config.json, model.safetensors and the tokenizer's files. `read` gives all values of parameter `index` of `unit`; it is called
// once for each, in the order of units and parameters. Files appear complete or not at all.
using WholeParameterReader = std::function<void(int unit, int index, std::vector<float>& out)>;
void save_model(const std::string& directory, const ModelDefinition& model, const std::string& tokenizer_path,
                const WholeParameterReader& read);

// A model in a Hugging Face directory or a checkpoint. InputError when it is missing, damaged or of an unknown kind.
struct SavedModel {
  std::unique_ptr<ModelDefinition> model;
  ParameterReader read;
  std::string tokenizer = {};  // of a checkpoint: its run's data.tokenizer
};
SavedModel open_model(const std::string& directory);
bool is_checkpoint(const std::string& directory);
// The parameters of the model in such a directory, which must be the one that a configuration describes: InputError otherwise. The
// subject's classes get the names that the directory has for them.
ParameterReader parameters_of_model(const std::string& directory, const Subject& subject);
// The tokenizer whose files lie beside the model; bytes when there are none and the vocabulary is theirs.
std::unique_ptr<Tokenizer> tokenizer_of_model(const std::string& directory, const ModelDefinition& model);

}  // namespace zerostep
