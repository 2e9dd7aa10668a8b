#pragma once
#include "models/model_options.h"
#include "runtime/config/values.h"

namespace zerostep::schema {

// The model that `model` describes: its sizes, or those of the config.json in model.path, with the dropout that is given. The vocabulary is
// 0 where nothing says it. InputError.
ModelOptions model_options_of(const Values& values);

// Does a Hugging Face directory hold a tokenizer?
bool holds_tokenizer(const std::string& directory);

}  // namespace zerostep::schema
