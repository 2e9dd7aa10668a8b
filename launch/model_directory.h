#pragma once
#include <string>

#include "base/file_descriptor.h"

namespace zerostep {

// Where a command is to write a model as a Hugging Face directory. Changes nothing. InputError: it holds files of a model or a tokenizer,
// and `overwrite` is not set; it is a checkpoint or a run's folder, or holds a config.json that is not a model's, whatever is set.
// `option`: how the user sets `overwrite`.
void check_model_directory(const std::string& directory, bool overwrite, const std::string& option = "--overwrite");

// Such a directory, made where it is missing, into which no other process writes a model as long as the object lives: a lock of the
// directory, which ends with the process, however it ends. A file system that has no locks of directories keeps nobody out.
class ModelDirectory {
 public:
  ModelDirectory() = default;  // none
  // InputError of check_model_directory(), when it cannot be made or written, and while another process has it.
  ModelDirectory(const std::string& directory, bool overwrite, const std::string& option = "--overwrite");

 private:
  FileDescriptor lock_;
};

// Whether two paths lead to one file or directory. What is not there is no other's equal.
bool is_same_place(const std::string& a, const std::string& b);

}  // namespace zerostep
