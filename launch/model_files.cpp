#include "launch/model_files.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/error.h"
#include "models/hugging_face.h"
#include "models/model_options.h"
#include "runtime/checkpoint/run_state.h"
#include "runtime/report/format.h"

namespace zerostep {
namespace fs = std::filesystem;
namespace {

constexpr std::array kTokenizerFiles{"tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt", "encoder.json", "vocab.bpe",
                                     "vocab.txt"};

void copy_tokenizer(const std::string& tokenizer_path, const std::string& directory) {
  if (tokenizer_path == "byte") return;
  bool copied = false;
  const fs::path given(tokenizer_path), folder = fs::is_directory(given) ? given : given.parent_path();
  for (const char* name : kTokenizerFiles) {
    std::error_code error;
    if (!fs::exists(folder / name, error)) continue;
    // A tokenizer.json that was named alone stays alone, and a vocabulary does not bring the tokenizer.json beside it.
    if (!fs::is_directory(given) && (given.filename() == "tokenizer.json") != (std::string(name).starts_with("tokenizer"))) continue;
    fs::copy_file(folder / name, fs::path(directory) / name, fs::copy_options::overwrite_existing, error);
    if (error) fail_run("cannot copy {} to {}: {}", (folder / name).string(), directory, error.message());
    copied = true;
  }
  if (!copied)
    fmt::print(stderr,
               "warning: {} holds no tokenizer: there is none at '{}', where the run found it (a relative path counts from the current "
               "folder); copy its files there\n",
               directory, tokenizer_path);
}

std::string tokenizer_of(const Manifest& manifest) {
  return manifest.configuration.value(nlohmann::json::json_pointer("/data/tokenizer"), std::string("byte"));
}

ParameterReader reader_of(std::shared_ptr<const ParameterSource> values) {
  return [values](const ParameterInfo& parameter, int64_t begin, int64_t count, float* out) { values->read(parameter, begin, count, out); };
}

SavedModel open_model_of_checkpoint(const std::string& directory) {
  const auto checkpoint = std::make_shared<CheckpointReader>(directory);
  const Manifest& manifest = checkpoint->manifest();
  for (size_t file = 0; file < manifest.files.size(); ++file) checkpoint->verify(file);
  checkpoint->open();
  SavedModel out;
  out.model =
      make_model(parse_model_options(nlohmann::json::parse(manifest.model.dump()), (fs::path(directory) / Manifest::kFile).string()));
  check_holds(*checkpoint, *out.model, nullptr);
  out.read = [checkpoint, read = parameters_of(*checkpoint)](const ParameterInfo& parameter, int64_t begin, int64_t count, float* values) {
    read(parameter, begin, count, values);
  };
  out.tokenizer = tokenizer_of(manifest);
  return out;
}

}  // namespace

ParameterReader starting_values(const Subject& subject) {
  if (!subject.config().model.path.empty())
    return reader_of(open_hugging_face_values(subject.config().model.path, *subject.model,
                                              // Words are predicted by a head that has learnt to.
                                              subject.prompt ? nullptr : make_initial_values(subject.config().seed)));
  return [seed = subject.config().seed](const ParameterInfo& parameter, int64_t begin, int64_t count, float* out) {
    initial_values(parameter, seed, begin, count, out);
  };
}

void make_model_directory(const std::string& directory) {
  std::error_code error;
  fs::create_directories(directory, error);
  if (error) fail_input("cannot make the directory {}: {}", directory, error.message());
  if (::access(directory.c_str(), W_OK | X_OK) != 0) fail_input("cannot write into {}: {}", directory, std::strerror(errno));
}

void save_model(const std::string& directory, const ModelDefinition& model, const std::string& tokenizer_path,
                const WholeParameterReader& read) {
  std::map<int64_t, std::pair<int, int>> places;  // by first element
  for (size_t u = 0; u < model.units().size(); ++u)
    for (size_t i = 0; i < model.units()[u].parameters.size(); ++i)
      places[model.units()[u].parameters[i].first] = {static_cast<int>(u), static_cast<int>(i)};
  std::vector<float> values;
  int64_t held = -1;
  write_hugging_face_model(directory, model, [&](const ParameterInfo& parameter, int64_t begin, int64_t count, float* out) {
    if (held != parameter.first) {
      const auto [unit, index] = places.at(parameter.first);
      read(unit, index, values);
      held = parameter.first;
    }
    std::copy_n(values.data() + begin, count, out);
  });
  copy_tokenizer(tokenizer_path, directory);
}

bool is_checkpoint(const std::string& directory) { return fs::exists(fs::path(directory) / Manifest::kFile); }

SavedModel open_model(const std::string& directory) {
  if (is_checkpoint(directory)) return open_model_of_checkpoint(directory);
  HuggingFaceModel opened = open_hugging_face_model(directory);
  return {std::move(opened.model), reader_of(std::move(opened.values))};
}

ParameterReader parameters_of_model(const std::string& directory, const Subject& subject) {
  // What such a directory is for may be another thing than the prompt's words: it is asked for the parameters alone.
  if (subject.prompt && !is_checkpoint(directory)) return reader_of(open_hugging_face_values(directory, *subject.model, nullptr));
  SavedModel saved = open_model(directory);
  const auto& units = subject.model->units();
  const auto& found = saved.model->units();
  for (size_t u = 0; u < std::max(units.size(), found.size()); ++u) {
    const bool same = u < units.size() && u < found.size() && units[u].parameters.size() == found[u].parameters.size() &&
                      std::equal(units[u].parameters.begin(), units[u].parameters.end(), found[u].parameters.begin(),
                                 [](const ParameterInfo& a, const ParameterInfo& b) { return a.name == b.name && a.shape == b.shape; });
    if (!same)
      fail_input(
          "{}: the model in {} is not the one that this file describes: they differ in unit {} ({} parameters against {}). Give the file "
          "that "
          "trained it",
          subject.config().file, directory, u < units.size() ? units[u].name : found[u].name, grouped(saved.model->num_elements()),
          grouped(subject.model->num_elements()));
  }
  subject.model->name_classes(saved.model->class_names());
  return std::move(saved.read);
}

std::unique_ptr<Tokenizer> tokenizer_of_model(const std::string& directory, const ModelDefinition& model) {
  if (is_checkpoint(directory)) {
    const std::string name = tokenizer_of(read_manifest(directory));
    return name == "byte" ? make_byte_tokenizer() : load_tokenizer(name);
  }
  const bool has_files = fs::exists(fs::path(directory) / "tokenizer.json") || fs::exists(fs::path(directory) / "vocab.json") ||
                         fs::exists(fs::path(directory) / "encoder.json");
  if (has_files) return load_tokenizer(directory);
  auto bytes = make_byte_tokenizer();
  if (model.vocabulary_size() < bytes->vocabulary_size() || model.vocabulary_size() > 2 * bytes->vocabulary_size())
    fail_input(
        "{} holds no tokenizer (tokenizer.json, or vocab.json with merges.txt), and the model's vocabulary of {} is not that of bytes "
        "({}): name the "
        "tokenizer with --tokenizer",
        directory, model.vocabulary_size(), bytes->vocabulary_size());
  return bytes;
}

}  // namespace zerostep
