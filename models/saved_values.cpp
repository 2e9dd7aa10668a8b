#include <algorithm>
#include <array>
#include <cstring>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <string_view>

#include "base/error.h"
#include "base/first_names.h"
#include "base/nth.h"
#include "models/architecture_names.h"
#include "models/hugging_face.h"
#include "models/json_file.h"
#include "models/model_options.h"
#include "models/safetensors.h"

namespace zerostep {
namespace {

namespace fs = std::filesystem;

// Whether a tensor is a function of the model's sizes alone: causal masks, frequencies and positions, which old files hold.
bool is_constant(std::string_view name) {
  constexpr std::array<std::string_view, 4> kEnds = {".attn.bias", ".attn.masked_bias", ".rotary_emb.inv_freq", "embeddings.position_ids"};
  return std::any_of(kEnds.begin(), kEnds.end(), [&](std::string_view end) { return name.ends_with(end); });
}

bool starts_with_one(const std::string& name, std::initializer_list<std::string_view> prefixes) {
  return std::any_of(prefixes.begin(), prefixes.end(), [&](std::string_view prefix) { return name.starts_with(prefix); });
}

// The parameters that a bare encoder or a language model lacks as a classifier. Of a last unit the final norm of a decoder is none.
bool is_of_classifier(const std::string& name) {
  return starts_with_one(name, {"classifier.", "pre_classifier.", "score.", "bert.pooler."});
}
// Those that have a row for each class.
bool counts_classes(const std::string& name) {
  return is_of_classifier(name) && !starts_with_one(name, {"classifier.dense.", "pre_classifier.", "bert.pooler."});
}
// The class of transformers that predicts masked words with this encoder; "" of a decoder.
std::string masked_class(const ModelDefinition& model) {
  const std::string& name = model.unit(0).parameters.front().name;
  const std::string family = name.substr(0, name.find('.'));
  return starts_with_one(family, {"bert", "roberta", "distilbert"}) ? masked_prediction(family) : "";
}

// Tensors under Hugging Face's names, in one file or several.
class SavedValues {
 public:
  SavedValues(const std::string& directory, FreshHead fresh_head) : directory_(directory), fresh_head_(std::move(fresh_head)) {
    const fs::path single = fs::path(directory) / "model.safetensors", index = fs::path(directory) / "model.safetensors.index.json";
    if (fs::exists(single)) {
      const SafetensorsFile& file = add(single.string());
      for (const auto& [name, tensor] : file.tensors()) places_.emplace(name, Place(&file, name));
    } else if (fs::exists(index)) {
      read_index(index.string());
    } else {
      fail_input("{}: there is neither model.safetensors nor model.safetensors.index.json{}", directory, other_format());
    }
  }

  // Finds every parameter and compares shapes, so that a fault is said before anything starts. `classes_of_config`: those that config.json
  // makes.
  void check(const ModelDefinition& model, int64_t classes_of_config) {
    masked_class_ = masked_class(model);
    for (const UnitInfo& unit : model.units())
      for (const BorrowedParameter& b : unit.borrowed) second_names_[nth(model.unit(b.unit).parameters, b.parameter).name] = b.name;
    std::set<std::string> used;
    for (const UnitInfo& unit : model.units()) {
      for (const ParameterInfo& parameter : unit.parameters) {
        const auto found = look_up(parameter.name);
        if (is_of_classifier(parameter.name) && fresh_head_.values && (fresh_head_.replaces || found == places_.end())) {
          untrained_.insert(parameter.name);
          continue;
        }
        if (found == places_.end()) fail_missing(parameter.name);
        used.insert(found->first);
        check_tensor(parameter, found->second, model.num_classes(), classes_of_config);
        check_second(parameter, found, used);
      }
    }
    for (const auto& [name, place] : places_)
      if (!used.contains(name) && !is_constant(name)) unused_.push_back(name);
  }

  std::vector<std::string> untrained() const { return {untrained_.begin(), untrained_.end()}; }

  std::vector<std::string> notes(const nlohmann::json& config) const {
    std::vector<std::string> out;
    const auto holds = [&](const char* name) { return fs::exists(fs::path(directory_) / name); };
    if (!unused_.empty())
      out.push_back(fmt::format(
          "{}: {} of the {} tensors in its files {} not used by this model: {}; no loss where the model's task has no such part",
          directory_, unused_.size(), places_.size(), unused_.size() == 1 ? "is" : "are", first_names(unused_)));
    if (holds("model.safetensors") && holds("model.safetensors.index.json"))
      out.push_back(fmt::format("{}: model.safetensors is read, and model.safetensors.index.json with its files is not", directory_));
    if (holds("adapter_config.json"))
      out.push_back(
          fmt::format("{}: the adapter beside the model (adapter_config.json) is not applied: merge it into the weights", directory_));
    if (const std::vector<std::string> keys = unread_keys(config); !keys.empty())
      out.push_back(fmt::format("{}/config.json: not known here and without effect: {}", directory_, first_names(keys)));
    return out;
  }

  void read(const ParameterInfo& parameter, int64_t begin, int64_t count, float* out) const {
    if (untrained_.contains(parameter.name)) return fresh_head_.values(parameter, begin, count, out);
    const auto found = look_up(parameter.name);
    if (found == places_.end()) fail_missing(parameter.name);
    found->second.first->read(found->second.second, begin, count, out);
  }

 private:
  using Place = std::pair<const SafetensorsFile*, std::string>;
  using Places = std::map<std::string, Place>;

  std::string other_format() const {
    for (const char* name : {"pytorch_model.bin", "pytorch_model.bin.index.json", "tf_model.h5", "flax_model.msgpack"})
      if (fs::exists(fs::path(directory_) / name))
        return fmt::format(", but {}, which is not read: save the model as safetensors (save_pretrained of transformers does)", name);
    if (fs::exists(fs::path(directory_) / "adapter_model.safetensors"))
      return ", but an adapter (adapter_model.safetensors): merge it into its model and save that";
    return "";
  }

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

  // Under its name, without the prefix of the model without its head, or as old files of BERT call norms.
  Places::const_iterator look_up_alone(const std::string& name) const {
    auto found = places_.find(name);
    for (std::string_view prefix : {"transformer.", "model.", "bert.", "roberta.", "distilbert."}) {
      if (found == places_.end() && name.starts_with(prefix)) found = places_.find(name.substr(prefix.size()));
    }
    for (const auto& [now, other] : {std::pair<std::string_view, const char*>{"LayerNorm.weight", "LayerNorm.gamma"},
                                     {"LayerNorm.bias", "LayerNorm.beta"},
                                     {"cls.predictions.bias", "cls.predictions.decoder.bias"},
                                     {"lm_head.bias", "lm_head.decoder.bias"}}) {
      if (found == places_.end() && name.ends_with(now)) found = look_up_alone(name.substr(0, name.size() - now.size()) + other);
    }
    return found;
  }
  // Also under the second name of a tied parameter.
  Places::const_iterator look_up(const std::string& name) const {
    const auto found = look_up_alone(name);
    const auto second = second_names_.find(name);
    return found != places_.end() || second == second_names_.end() ? found : places_.find(second->second);
  }

  [[noreturn]] void fail_missing(const std::string& name) const {
    if (!masked_class_.empty() && starts_with_one(name, {"cls.predictions.", "lm_head.", "vocab_"}))
      fail_input("{}: the safetensors hold no {}, which data.template needs to predict words: give the directory of a {}", directory_, name,
                 masked_class_);
    if (name == "lm_head.weight")
      fail_input(
          "{}: the safetensors hold no {}, which config.json asks for (tie_word_embeddings is false): set tie_word_embeddings to true "
          "there where the head shares the embedding's weights",
          directory_, name);
    fail_input("{}: the safetensors hold no {}, which config.json asks for", directory_, name);
  }

  static void check_tensor(const ParameterInfo& parameter, const Place& place, int64_t classes, int64_t classes_of_config) {
    const auto& [file, name] = place;
    const SafetensorsFile::Tensor& tensor = file->tensor(name);
    if (!tensor.is_floating()) fail_input("{}: {} has type {}; expected F32, BF16, F16 or F64", file->path(), name, tensor.type);
    if (tensor.shape == parameter.shape) return;
    const std::string found = nlohmann::json(tensor.shape).dump(), expected = nlohmann::json(parameter.shape).dump();
    if (!counts_classes(parameter.name) || tensor.shape.empty())
      fail_input("{}: {} has shape {}, but config.json makes it {}", file->path(), name, found, expected);
    fail_input(
        "{}: {} has shape {}, a classifier of {} classes, but {} {} classes: {}, or set model.fresh_classifier to true for a new "
        "classifier in its place",
        file->path(), name, found, tensor.shape[0],
        classes == classes_of_config ? "config.json beside it (id2label, num_labels) has" : "model.num_labels asks for", classes,
        classes == classes_of_config ? "correct config.json" : "leave model.num_labels out");
  }

  // A tied parameter that a file holds under both names has the same values there.
  void check_second(const ParameterInfo& parameter, Places::const_iterator found, std::set<std::string>& used) const {
    const auto name = second_names_.find(parameter.name);
    const auto second = name == second_names_.end() ? places_.end() : places_.find(name->second);
    for (const auto& [name, other] :
         {std::pair{"cls.predictions.bias", "cls.predictions.decoder.bias"}, {"lm_head.bias", "lm_head.decoder.bias"}}) {
      const auto bias = places_.find(other);
      if (parameter.name == name && bias != places_.end()) compare(parameter, found, bias, used);
    }
    if (second != places_.end()) compare(parameter, found, second, used);
  }
  void compare(const ParameterInfo& parameter, Places::const_iterator first, Places::const_iterator second,
               std::set<std::string>& used) const {
    used.insert(second->first);
    if (first == second) return;
    const auto values = [](const Place& place, int64_t begin, int64_t count) {
      std::vector<float> out(static_cast<size_t>(count));
      place.first->read(place.second, begin, count, out.data());
      return out;
    };
    constexpr int64_t kRun = 1 << 18;
    bool same = second->second.first->tensor(second->second.second).shape == parameter.shape;
    for (int64_t begin = 0; same && begin < parameter.num_elements(); begin += kRun) {
      const int64_t count = std::min(kRun, parameter.num_elements() - begin);
      const std::vector<float> a = values(first->second, begin, count), b = values(second->second, begin, count);
      same = std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
    }
    if (same) return;
    // Only ties of a GPT-2, Llama or Qwen2 can be undone.
    if (!masked_class_.empty())
      fail_input("{}: {} and {} differ, and a {} has one tensor for both: take one of the two out", directory_, first->first, second->first,
                 masked_class_);
    fail_input(
        "{}: {} and {} differ, but config.json ties them (tie_word_embeddings): set tie_word_embeddings to false there to keep both, or "
        "take one of the tensors out",
        directory_, first->first, second->first);
  }

  std::string directory_;
  FreshHead fresh_head_;
  std::vector<std::unique_ptr<SafetensorsFile>> files_;
  Places places_;
  std::map<std::string, std::string> second_names_;  // of tied parameters
  std::set<std::string> untrained_;
  std::vector<std::string> unused_;
  std::string masked_class_;  // "" of a decoder
};

ModelOptions options_of(const nlohmann::json& config, const std::string& directory) {
  return parse_model_options(config, (fs::path(directory) / "config.json").string());
}

void open_values(HuggingFaceValues& out, const std::string& directory, const nlohmann::json& config, const ModelDefinition& model,
                 FreshHead fresh_head) {
  const ModelOptions options = options_of(config, directory);
  const int64_t classes = std::visit([](const auto& o) { return o.num_labels; }, options);
  const auto values = std::make_shared<SavedValues>(directory, std::move(fresh_head));
  values->check(model, classes);
  out.untrained = values->untrained();
  out.notes = values->notes(config);
  out.values = [values](const ParameterInfo& parameter, int64_t begin, int64_t count, float* to) {
    values->read(parameter, begin, count, to);
  };
}

}  // namespace

HuggingFaceValues open_hugging_face_values(const std::string& directory, const ModelDefinition& model, FreshHead fresh_head) {
  HuggingFaceValues out;
  open_values(out, directory, read_model_config(directory), model, std::move(fresh_head));
  return out;
}

HuggingFaceModel open_hugging_face_model(const std::string& directory, FreshHead fresh_head) {
  const nlohmann::json config = read_model_config(directory);
  HuggingFaceModel out;
  out.model = make_model_of(directory, options_of(config, directory));
  open_values(out, directory, config, *out.model, std::move(fresh_head));
  return out;
}

}  // namespace zerostep
