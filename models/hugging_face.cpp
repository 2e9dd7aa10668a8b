#include "models/hugging_face.h"

#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "models/model_options.h"
#include "models/safetensors.h"

namespace zerostep {

namespace fs = std::filesystem;

namespace {

constexpr int64_t kChunkElements = 1 << 20;

class InitialValues final : public ParameterSource {
 public:
  explicit InitialValues(uint64_t seed) : seed_(seed) {}
  void read(const ParameterInfo& parameter, int64_t begin, int64_t count, float* out) const override {
    initial_values(parameter, seed_, begin, count, out);
  }

 private:
  uint64_t seed_;
};

// Tensors under Hugging Face's names, in one file or several.
class SavedValues final : public ParameterSource {
 public:
  explicit SavedValues(const std::string& directory) : directory_(directory) {
    const fs::path single = fs::path(directory) / "model.safetensors", index = fs::path(directory) / "model.safetensors.index.json";
    if (fs::exists(single)) {
      add(single.string());
    } else if (fs::exists(index)) {
      const nlohmann::json json = read_json_object(index.string());
      if (!json.contains("weight_map") || !json["weight_map"].is_object()) fail_input("{}: there is no weight_map", index.string());
      std::map<std::string, bool> files;
      for (const auto& [name, file] : json["weight_map"].items()) {
        if (!file.is_string() || file.get<std::string>().find('/') != std::string::npos) {
          fail_input("{}: weight_map.{} is {}; expected the name of a file beside it", index.string(), name, file.dump());
        }
        files[file] = true;
      }
      for (const auto& [file, unused] : files) add((fs::path(directory) / file).string());
    } else {
      fail_input("{}: there is neither model.safetensors nor model.safetensors.index.json", directory);
    }
  }

  // Finds every parameter and compares shapes, so that a fault is said before anything starts.
  void check(const ModelDefinition& model) const {
    for (const UnitInfo& unit : model.units()) {
      for (const ParameterInfo& parameter : unit.parameters) {
        const auto& [file, name] = find(parameter.name);
        const auto& shape = file->tensor(name).shape;
        if (shape != parameter.shape) {
          fail_input("{}: {} has shape {}, but config.json makes it {}", file->path(), name, nlohmann::json(shape).dump(),
                     nlohmann::json(parameter.shape).dump());
        }
      }
    }
  }

  void read(const ParameterInfo& parameter, int64_t begin, int64_t count, float* out) const override {
    const auto& [file, name] = find(parameter.name);
    file->read(name, begin, count, out);
  }

 private:
  using Place = std::pair<const SafetensorsFile*, std::string>;
  void add(const std::string& path) {
    files_.push_back(std::make_unique<SafetensorsFile>(path));
    for (const auto& [name, tensor] : files_.back()->tensors()) places_.emplace(name, Place(files_.back().get(), name));
  }
  const Place& find(const std::string& name) const {
    auto found = places_.find(name);
    for (std::string_view prefix : {"transformer.", "model."}) {
      if (found == places_.end() && name.starts_with(prefix)) found = places_.find(name.substr(prefix.size()));
    }
    if (found == places_.end()) fail_input("{}: the safetensors hold no {}, which config.json asks for", directory_, name);
    return found->second;
  }

  std::string directory_;
  std::vector<std::unique_ptr<SafetensorsFile>> files_;
  std::map<std::string, Place> places_;
};

}  // namespace

std::unique_ptr<ParameterSource> make_initial_values(uint64_t seed) { return std::make_unique<InitialValues>(seed); }

HuggingFaceModel open_hugging_face_model(const std::string& directory) {
  if (!fs::is_directory(directory)) fail_input("{}: not a directory; expected a Hugging Face directory with config.json", directory);
  const std::string config = (fs::path(directory) / "config.json").string();
  HuggingFaceModel result;
  try {
    result.model = make_model(read_model_options(config));
  } catch (const InputError& error) {
    const std::string text = error.what();
    if (text.starts_with(config)) throw;
    fail_input("{}: {}", config, text);
  }
  auto values = std::make_unique<SavedValues>(directory);
  values->check(*result.model);
  result.values = std::move(values);
  return result;
}

void write_safetensors_model(const std::string& path, const ModelDefinition& model,
                             const std::function<void(const ParameterInfo&, int64_t, int64_t, float*)>& read) {
  std::vector<SafetensorsWriter::Tensor> tensors;
  for (const UnitInfo& unit : model.units()) {
    for (const ParameterInfo& parameter : unit.parameters) tensors.push_back({parameter.name, DType::F32, parameter.shape});
  }
  SafetensorsWriter writer(path, std::move(tensors));
  std::vector<float> values(kChunkElements);
  for (const UnitInfo& unit : model.units()) {
    for (const ParameterInfo& parameter : unit.parameters) {
      for (int64_t begin = 0; begin < parameter.num_elements(); begin += kChunkElements) {
        const int64_t count = std::min(kChunkElements, parameter.num_elements() - begin);
        read(parameter, begin, count, values.data());
        writer.append(values.data(), count);
      }
    }
  }
  writer.finish();
}

void write_hugging_face_model(const std::string& directory, const ModelDefinition& model,
                              const std::function<void(const ParameterInfo&, int64_t, int64_t, float*)>& read) {
  write_safetensors_model((fs::path(directory) / "model.safetensors").string(), model, read);
  const fs::path config = fs::path(directory) / "config.json", partial = config.string() + ".partial";
  std::ofstream out(partial, std::ios::trunc);
  out << model.hugging_face_config();
  out.close();
  if (!out) fail_run("cannot write {}", partial.string());
  std::error_code error;
  fs::rename(partial, config, error);
  if (error) fail_run("cannot rename {} to {}: {}", partial.string(), config.string(), error.message());
}

}  // namespace zerostep
