#include "models/hugging_face.h"

#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "models/gpt2/gpt2.h"
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

nlohmann::json read_json(const std::string& path) {
  std::ifstream in(path);
  if (!in) fail_input("{}: cannot be read; a Hugging Face directory holds config.json and model.safetensors", path);
  nlohmann::json json = nlohmann::json::parse(in, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) fail_input("{}: not a JSON object", path);
  return json;
}

// Tensors under Hugging Face's names, in one file or several.
class SavedValues final : public ParameterSource {
 public:
  explicit SavedValues(const std::string& directory) : directory_(directory) {
    const fs::path single = fs::path(directory) / "model.safetensors", index = fs::path(directory) / "model.safetensors.index.json";
    if (fs::exists(single)) {
      add(single.string());
    } else if (fs::exists(index)) {
      const nlohmann::json json = read_json(index.string());
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
    constexpr std::string_view kPrefix = "transformer.";
    auto found = places_.find(name);
    if (found == places_.end() && name.starts_with(kPrefix)) found = places_.find(name.substr(kPrefix.size()));
    if (found == places_.end()) fail_input("{}: the safetensors hold no {}, which config.json asks for", directory_, name);
    return found->second;
  }

  std::string directory_;
  std::vector<std::unique_ptr<SafetensorsFile>> files_;
  std::map<std::string, Place> places_;
};

// A key of config.json, or its default in transformers.
template <typename T>
T value_of(const nlohmann::json& config, const std::string& path, const char* key, T otherwise) {
  if (!config.contains(key) || config[key].is_null()) return otherwise;
  const nlohmann::json& value = config[key];
  const bool right = std::is_same_v<T, bool>          ? value.is_boolean()
                     : std::is_same_v<T, std::string> ? value.is_string()
                     : std::is_same_v<T, int64_t>     ? value.is_number_integer()
                                                      : value.is_number();
  if (!right) {
    fail_input("{}: {} is {}; expected {}", path, key, value.dump(),
               std::is_same_v<T, bool>          ? "true or false"
               : std::is_same_v<T, std::string> ? "text"
               : std::is_same_v<T, int64_t>     ? "a whole number"
                                                : "a number");
  }
  return value.get<T>();
}

Gpt2Options read_config(const std::string& path) {
  const nlohmann::json c = read_json(path);
  const std::string family = value_of<std::string>(c, path, "model_type", "");
  if (family != "gpt2") fail_input("{}: model_type is \"{}\"; expected \"gpt2\"", path, family);
  const auto refuse = [&](const char* key, bool expected) {
    if (value_of(c, path, key, expected) != expected) fail_input("{}: {} is {}, which this GPT-2 does not have", path, key, !expected);
  };
  refuse("scale_attn_weights", true);
  refuse("scale_attn_by_inverse_layer_idx", false);
  refuse("add_cross_attention", false);
  const auto activation = value_of<std::string>(c, path, "activation_function", "gelu_new");
  if (activation != "gelu_new" && activation != "gelu_pytorch_tanh") {
    fail_input("{}: activation_function is \"{}\"; expected \"gelu_new\" or \"gelu_pytorch_tanh\"", path, activation);
  }
  Gpt2Options o;
  o.n_layer = value_of(c, path, "n_layer", o.n_layer);
  o.n_embd = value_of(c, path, "n_embd", o.n_embd);
  o.n_head = value_of(c, path, "n_head", o.n_head);
  o.n_positions = value_of(c, path, "n_positions", o.n_positions);
  o.n_inner = value_of(c, path, "n_inner", o.n_inner);
  o.vocab_size = value_of(c, path, "vocab_size", o.vocab_size);
  o.layer_norm_epsilon = value_of(c, path, "layer_norm_epsilon", o.layer_norm_epsilon);
  o.initializer_range = value_of(c, path, "initializer_range", o.initializer_range);
  o.resid_pdrop = value_of(c, path, "resid_pdrop", o.resid_pdrop);
  o.embd_pdrop = value_of(c, path, "embd_pdrop", o.embd_pdrop);
  o.attn_pdrop = value_of(c, path, "attn_pdrop", o.attn_pdrop);
  o.tie_word_embeddings = value_of(c, path, "tie_word_embeddings", o.tie_word_embeddings);
  return o;
}

}  // namespace

std::unique_ptr<ParameterSource> make_initial_values(uint64_t seed) { return std::make_unique<InitialValues>(seed); }

HuggingFaceModel open_hugging_face_model(const std::string& directory) {
  if (!fs::is_directory(directory)) fail_input("{}: not a directory; expected a Hugging Face directory with config.json", directory);
  const std::string config = (fs::path(directory) / "config.json").string();
  HuggingFaceModel result;
  try {
    result.model = make_gpt2(read_config(config));
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
