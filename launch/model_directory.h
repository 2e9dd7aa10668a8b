#pragma once
#include <string>

namespace zerostep {

// Where a command is to write a model as a Hugging Face directory. Changes nothing. InputError: it holds files of a model or a tokenizer,
// and `overwrite` is not set; it is a checkpoint or a run's folder, or holds a config.json that is not a model's, whatever is set.
// `option`: how the user sets `overwrite`.
void check_model_directory(const std::string& directory, bool overwrite, const std::string& option = "--overwrite");
// Makes it where it is missing. InputError when it cannot be made or written.
void make_model_directory(const std::string& directory);

// Whether two paths lead to one file or directory. What is not there is no other's equal.
bool is_same_place(const std::string& a, const std::string& b);

}  // namespace zerostep
