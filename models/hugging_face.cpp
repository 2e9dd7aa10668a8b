#include "models/hugging_face.h"

#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

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
  SavedValues(const std::string& directory, std::unique_ptr<ParameterSource> fresh_head)
      : directory_(directory), fresh_head_(std::move(fresh_head)) {
    const fs::path single = fs::path(directory) / "model.safetensors", index = fs::path(directory) / "model.safetensors.index.json";
    if (fs::exists(single)) {
      const SafetensorsFile& file = add(single.string());
      for (const auto& [name, tensor] : file.tensors()) places_.emplace(name, Place(&file, name));
    } else if (fs::exists(index)) {
      read_index(index.string());
    } else {
      fail_input("{}: there is neither model.safetensors nor model.safetensors.index.json", directory);
    }
  }

  // Finds every parameter and compares shapes, so that a fault is said before anything starts. Gives those that the fresh head has.
  std::vector<std::string> check(const ModelDefinition& model) {
    for (const UnitInfo& unit : model.units()) {
      const bool is_head = model.num_classes() > 0 && &unit == &model.units().back();
      for (const ParameterInfo& parameter : unit.parameters) {
        if (is_head && fresh_head_ && look_up(parameter.name) == places_.end()) {
          untrained_.insert(parameter.name);
          continue;
        }
        const auto& [file, name] = find(parameter.name);
        const SafetensorsFile::Tensor& tensor = file->tensor(name);
        const auto& shape = tensor.shape;
        if (!tensor.is_floating()) fail_input("{}: {} has type {}; expected F32, BF16, F16 or F64", file->path(), name, tensor.type);
        if (shape != parameter.shape) {
          fail_input("{}: {} has shape {}, but config.json makes it {}", file->path(), name, nlohmann::json(shape).dump(),
                     nlohmann::json(parameter.shape).dump());
        }
      }
    }
    return {untrained_.begin(), untrained_.end()};
  }

  void read(const ParameterInfo& parameter, int64_t begin, int64_t count, float* out) const override {
    if (untrained_.contains(parameter.name)) return fresh_head_->read(parameter, begin, count, out);
    const auto& [file, name] = find(parameter.name);
    file->read(name, begin, count, out);
  }

 private:
  using Place = std::pair<const SafetensorsFile*, std::string>;
  const SafetensorsFile& add(const std::string& path) {
    files_.push_back(std::make_unique<SafetensorsFile>(path));
    return *files_.back();
  }
  // {"weight_map": {tensor: file}}: what a file holds beside is not looked at.
  void read_index(const std::string& path) {
    const nlohmann::json json = read_json_object(path);
    if (!json.contains("weight_map") || !json["weight_map"].is_object()) fail_input("{}: there is no weight_map", path);
    std::map<std::string, const SafetensorsFile*> files;
    for (const auto& [name, file] : json["weight_map"].items()) {
      if (!file.is_string() || file.get<std::string>().find('/') != std::string::npos) {
        fail_input("{}: weight_map.{} is {}; expected the name of a file beside it", path, name, file.dump());
      }
      const SafetensorsFile*& opened = files[file.get<std::string>()];
      if (opened == nullptr) opened = &add((fs::path(directory_) / file.get<std::string>()).string());
      if (!opened->contains(name)) fail_input("{}: weight_map says that {} holds {}, and it does not", path, opened->path(), name);
      places_.emplace(name, Place(opened, name));
    }
  }
  using Places = std::map<std::string, Place>;
  // Under its name, without the prefix of the model without its head, or as old files of BERT call norms.
  Places::const_iterator look_up(const std::string& name) const {
    auto found = places_.find(name);
    for (std::string_view prefix : {"transformer.", "model.", "bert."}) {
      if (found == places_.end() && name.starts_with(prefix)) found = places_.find(name.substr(prefix.size()));
    }
    for (const auto& [now, old] :
         {std::pair<std::string_view, const char*>{"LayerNorm.weight", "LayerNorm.gamma"}, {"LayerNorm.bias", "LayerNorm.beta"}}) {
      if (found == places_.end() && name.ends_with(now)) found = look_up(name.substr(0, name.size() - now.size()) + old);
    }
    return found;
  }
  const Place& find(const std::string& name) const {
    const auto found = look_up(name);
    if (found == places_.end())
      fail_input("{}: the safetensors hold no {}, which {}", directory_, name,
                 name.starts_with("cls.predictions.") ? "data.template needs to predict words: give the directory of a BertForMaskedLM"
                                                      : "config.json asks for");
    return found->second;
  }

  std::string directory_;
  std::unique_ptr<ParameterSource> fresh_head_;
  std::vector<std::unique_ptr<SafetensorsFile>> files_;
  Places places_;
  std::set<std::string> untrained_;
};

using ReadValues = std::function<void(const ParameterInfo&, int64_t, int64_t, float*)>;

// In the order of the model, as many as fit a file; one at least.
std::vector<std::vector<const ParameterInfo*>> files_of(const ModelDefinition& model, int64_t file_bytes) {
  std::vector<std::vector<const ParameterInfo*>> files(1);
  int64_t bytes = 0;
  for (const UnitInfo& unit : model.units()) {
    for (const ParameterInfo& parameter : unit.parameters) {
      const int64_t more = num_bytes(parameter.num_elements(), DType::F32);
      if (!files.back().empty() && bytes + more > file_bytes) {
        files.emplace_back();
        bytes = 0;
      }
      files.back().push_back(&parameter);
      bytes += more;
    }
  }
  return files;
}

void write_parameters(const std::string& path, const std::vector<const ParameterInfo*>& parameters, const ReadValues& read) {
  std::vector<SafetensorsWriter::Tensor> tensors;
  for (const ParameterInfo* p : parameters) tensors.push_back({p->name, DType::F32, p->shape});
  SafetensorsWriter writer(path, std::move(tensors));
  std::vector<float> values(kChunkElements);
  for (const ParameterInfo* p : parameters) {
    for (int64_t begin = 0; begin < p->num_elements(); begin += kChunkElements) {
      const int64_t count = std::min(kChunkElements, p->num_elements() - begin);
      read(*p, begin, count, values.data());
      writer.append(values.data(), count);
    }
  }
  writer.finish();
}

void write_text(const fs::path& path, const std::string& text) {
  const std::string partial = path.string() + ".partial";
  std::ofstream out(partial, std::ios::trunc);
  out << text;
  out.close();
  if (!out) fail_run("cannot write {}", partial);
  std::error_code error;
  fs::rename(partial, path, error);
  if (error) fail_run("cannot rename {} to {}: {}", partial, path.string(), error.message());
}

}  // namespace

std::unique_ptr<ParameterSource> make_initial_values(uint64_t seed) { return std::make_unique<InitialValues>(seed); }

HuggingFaceModel open_hugging_face_model(const std::string& directory, std::unique_ptr<ParameterSource> fresh_head) {
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
  auto values = std::make_unique<SavedValues>(directory, std::move(fresh_head));
  result.untrained = values->check(*result.model);
  result.values = std::move(values);
  return result;
}

std::unique_ptr<ParameterSource> open_hugging_face_values(const std::string& directory, const ModelDefinition& model,
                                                          std::unique_ptr<ParameterSource> fresh_head,
                                                          std::vector<std::string>* untrained) {
  auto values = std::make_unique<SavedValues>(directory, std::move(fresh_head));
  std::vector<std::string> fresh = values->check(model);
  if (untrained != nullptr) *untrained = std::move(fresh);
  return values;
}

void write_hugging_face_model(const std::string& directory, const ModelDefinition& model,
                              const std::function<void(const ParameterInfo&, int64_t, int64_t, float*)>& read, int64_t file_bytes) {
  const fs::path folder(directory), single = folder / "model.safetensors", index = folder / "model.safetensors.index.json";
  const std::vector<std::vector<const ParameterInfo*>> files = files_of(model, file_bytes);
  const auto path_of = [&](size_t file) {
    return files.size() == 1 ? single : folder / fmt::format("model-{:05}-of-{:05}.safetensors", file + 1, files.size());
  };
  nlohmann::ordered_json weight_map;
  int64_t bytes = 0;
  for (size_t f = 0; f < files.size(); ++f) {
    write_parameters(path_of(f).string(), files[f], read);
    for (const ParameterInfo* p : files[f]) {
      weight_map[p->name] = path_of(f).filename().string();
      bytes += num_bytes(p->num_elements(), DType::F32);
    }
  }
  if (files.size() > 1)
    write_text(index, nlohmann::ordered_json{{"metadata", {{"total_size", bytes}}}, {"weight_map", weight_map}}.dump(2) + "\n");
  // What a former model of another size left would be read instead.
  std::error_code ignored;
  fs::remove(files.size() > 1 ? single : index, ignored);
  write_text(folder / "config.json", model.hugging_face_config());
}

}  // namespace zerostep
