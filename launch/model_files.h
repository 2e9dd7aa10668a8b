#pragma once
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "launch/companion_files.h"
#include "launch/subject.h"
#include "models/model.h"
#include "models/tokenizer/tokenizer.h"
#include "runtime/config/config.h"
#include "runtime/engine/engine.h"

namespace zerostep {

// Values of a model, and what the user has to know of where they come from.
struct ModelValues {
  ParameterReader read;
  std::vector<std::string> untrained = {};  // parameters of a classifier that the directory lacks: they have first values
  std::vector<std::string> notes = {};      // sentences that warn
};
// The values that training starts from: those in model.path, or those that the seed alone determines.
ModelValues starting_values(const Subject& subject);

ModelOrigin origin_of(const Config& config);
// Writes config.json, model.safetensors with values of a type and the tokenizer's files, takes those of another tokenizer away, and copies
// generation_config.json. `read` gives all values of parameter `index` of `unit`; it is called once for each, in the order of units and
// parameters. Files appear complete or not at all. Gives sentences that warn of what other tools would not have.
using WholeParameterReader = std::function<void(int unit, int index, std::vector<float>& out)>;
WholeParameterReader whole_parameters(const ModelDefinition& model, const ParameterReader& read);
std::vector<std::string> save_model(const std::string& directory, const ModelDefinition& model, const ModelOrigin& origin,
                                    const WholeParameterReader& read, DType type = DType::F32);

// A model in a Hugging Face directory or a checkpoint. InputError when it is missing, damaged or of an unknown kind.
struct SavedModel {
  std::unique_ptr<ModelDefinition> model;
  ParameterReader read;
  ModelOrigin origin = {};  // of a checkpoint: its run's
  std::vector<std::string> notes = {};
};
SavedModel open_model(const std::string& directory);
bool is_checkpoint(const std::string& directory);
// The parameters of the model in such a directory, which must be the one that a configuration describes: InputError otherwise. The
// subject's classes get the names that the directory has for them.
ModelValues parameters_of_model(const std::string& directory, const Subject& subject);
// The tokenizer whose files lie beside the model; bytes, said on stderr, when there are none and the vocabulary is theirs.
std::unique_ptr<Tokenizer> tokenizer_of_model(const std::string& directory, const ModelDefinition& model);
// The tokens that end a text by generation_config.json, or else config.json, of a Hugging Face directory; none of no directory ("").
std::vector<int32_t> end_tokens_of_model(const std::string& directory);

}  // namespace zerostep
