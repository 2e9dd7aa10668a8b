#include "launch/model_directory.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <vector>

#include "base/error.h"
#include "base/file_lock.h"
#include "base/first_names.h"
#include "base/json_depth.h"
#include "launch/run_folder.h"
#include "models/tokenizer/tokenizer.h"
#include "runtime/checkpoint/manifest.h"

namespace zerostep {
namespace fs = std::filesystem;
namespace {

constexpr const char* kConfig = "config.json";

bool is_model_file(const std::string& name) {
  const std::vector<std::string>& tokenizers = tokenizer_file_names();
  return name == kConfig || name == "generation_config.json" || name == "model.safetensors.index.json" ||
         (name.starts_with("model") && name.ends_with(".safetensors")) ||
         std::find(tokenizers.begin(), tokenizers.end(), name) != tokenizers.end();
}

// In the order of their names.
std::vector<std::string> model_files_in(const fs::path& directory) {
  std::vector<std::string> found;
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(directory, error))
    if (const std::string name = entry.path().filename().string(); is_model_file(name)) found.push_back(name);
  std::sort(found.begin(), found.end());
  return found;
}

// A file that says what it configures, and that is no model.
bool configures_something_else(const fs::path& file) {
  std::ifstream in(file);
  const std::string text{std::istreambuf_iterator<char>(in), {}};
  const auto json = nlohmann::json::parse(unless_too_deep(text), nullptr, /*allow_exceptions=*/false, /*ignore_comments=*/true);
  return json.is_object() && !json.empty() && !json.contains("model_type") && !json.contains("architectures");
}

}  // namespace

void check_model_directory(const std::string& directory, bool overwrite, const std::string& option) {
  const fs::path path(directory);
  std::error_code error;
  if (fs::exists(path / Manifest::kFile, error))
    fail_input("{} is a checkpoint, which a model written there would damage: name another directory for the model", directory);
  if (is_folder_of_run(path))
    fail_input("{} is the folder of a run, whose config.json a model written there would replace: name another directory, as {}", directory,
               (path / "model").string());
  if (configures_something_else(path / kConfig))
    fail_input(
        "{} holds a config.json that is not a model's (it names no model_type) and that a model written there would replace: name another "
        "directory",
        directory);
  const std::vector<std::string> found = model_files_in(path);
  if (found.empty() || overwrite) return;
  fail_input("{} holds a model or a tokenizer already ({}), which would be written over: name another directory, or allow it with {}",
             directory, first_names(found), option);
}

ModelDirectory::ModelDirectory(const std::string& directory, bool overwrite, const std::string& option) {
  check_model_directory(directory, overwrite, option);
  std::error_code error;
  fs::create_directories(directory, error);
  if (error) fail_input("cannot make the directory {}: {}", directory, error.message());
  if (::access(directory.c_str(), W_OK | X_OK) != 0) fail_input("cannot write into {}: {}", directory, std::strerror(errno));
  lock_ = FileDescriptor(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (lock_.is_open() && try_lock(lock_.get(), LOCK_EX) == EWOULDBLOCK)
    fail_input("{}: another process writes a model there at this moment: wait for its end, or name another directory", directory);
  check_model_directory(directory, overwrite, option);  // it may have got one meanwhile
}

bool is_same_place(const std::string& a, const std::string& b) {
  std::error_code missing;
  return fs::equivalent(a, b, missing) && !missing;
}

}  // namespace zerostep
