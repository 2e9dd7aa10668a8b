#pragma once
#include <string>
#include <vector>

namespace zerostep {

// What a saved model brings along beside its own values: a path as data.tokenizer has it, and the directory it comes from or "".
struct ModelOrigin {
  std::string tokenizer, directory;
};

// Copies the tokenizer's files into the directory of a saved model, under the names by which other tools find them, and
// generation_config.json. Files of a former tokenizer, which would be read instead, are taken away. Where the class that transformers would
// take for a model of this type reads other files, tokenizer_config.json names the right one. Gives sentences that warn. RunError where a
// file cannot be copied.
std::vector<std::string> copy_companions(const ModelOrigin& origin, const std::string& model_type, const std::string& directory);

}  // namespace zerostep
