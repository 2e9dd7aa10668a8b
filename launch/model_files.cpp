#include "launch/model_files.h"

#include <algorithm>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/console.h"
#include "base/error.h"
#include "base/nth.h"
#include "launch/run_folder.h"
#include "models/architecture_names.h"
#include "models/hugging_face.h"
#include "models/json_file.h"
#include "models/model_options.h"
#include "runtime/checkpoint/run_state.h"

namespace zerostep {
namespace fs = std::filesystem;
namespace {

ModelOrigin origin_of(const Manifest& manifest) {
  const auto text = [&](const char* path, const char* otherwise) {
    return manifest.configuration.value(nlohmann::json::json_pointer(path), std::string(otherwise));
  };
  return {text("/data/tokenizer", "byte"), text("/model/path", "")};
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
  out.origin = origin_of(manifest);
  return out;
}

// Who names a run means one of its checkpoints.
void check_no_run_folder(const std::string& directory) {
  if (is_checkpoint(directory) || !is_folder_of_run(directory)) return;
  const std::string checkpoints = (fs::path(directory) / "checkpoints").string();
  if (holds_checkpoints(checkpoints)) {
    const std::string latest = (fs::path(checkpoints) / kLatestFile).string(), named = checkpoint_named_by(latest);
    fail_input("{}: is the folder of a run, not a model: name one of its checkpoints, as {}", directory,
               named == latest ? (fs::path(checkpoints) / "step_...").string() : named);
  }
  fail_input(
      "{}: is the folder of a run, not a model, and it has no checkpoint: run.checkpoint_interval writes some, train --save-model the "
      "trained model",
      directory);
}

// Does another tokenizer belong to a saved model than the one that the subject reads texts with?
void check_tokenizer(const std::string& directory, const Subject& subject, std::vector<std::string>& notes) {
  std::string fingerprint;
  if (is_checkpoint(directory)) {
    fingerprint = read_manifest(directory).identity.value("tokenizer", "");
  } else if (!tokenizer_files(directory).empty()) {
    try {
      fingerprint = load_tokenizer(directory)->fingerprint();
    } catch (const InputError&) {  // one that is not read here cannot be compared
    }
  }
  if (!fingerprint.empty() && fingerprint != subject.tokenizer->fingerprint())
    notes.push_back(
        fmt::format("{}: its tokenizer gives other tokens than data.tokenizer \"{}\" of {}: name its own where the figures are "
                    "to be the model's",
                    directory, subject.config().data.tokenizer, subject.config().file));
}

void check_same_model(const std::string& directory, const Subject& subject, const ModelDefinition& saved) {
  struct Place {
    const UnitInfo* unit;
    std::string text;
  };
  const auto parameters_in = [](const ModelDefinition& model) {
    std::vector<Place> out;
    for (const UnitInfo& unit : model.units())
      for (const ParameterInfo& p : unit.parameters) out.push_back({&unit, fmt::format("{} {}", p.name, nlohmann::json(p.shape).dump())});
    return out;
  };
  const auto ours = parameters_in(*subject.model), theirs = parameters_in(saved);
  const auto text = [](const std::vector<Place>& all, size_t i) { return i < all.size() ? all[i].text : std::string("nothing more"); };
  for (size_t i = 0; i < std::max(ours.size(), theirs.size()); ++i)
    if (text(ours, i) != text(theirs, i))
      fail_input(
          "{}: the model in {} is not the one that this file describes: in unit {} it has {} where the file makes {}{}. Give the file that "
          "trained it",
          subject.config().file, directory, i < ours.size() ? ours[i].unit->name : theirs[i].unit->name, text(theirs, i), text(ours, i),
          text(ours, i).starts_with("classifier.") || text(ours, i).starts_with("score.") ? " (model.num_labels)" : "");
}

}  // namespace

ModelValues starting_values(const Subject& subject) {
  const ModelConfig& model = subject.config().model;
  const uint64_t seed = subject.config().seed;
  if (model.path.empty()) return {.read = make_initial_values(seed)};
  FreshHead head;
  // Words are predicted by a head that has learnt to.
  if (!subject.prompt) head = {make_initial_values(seed), model.fresh_classifier};
  HuggingFaceValues opened = open_hugging_face_values(model.path, *subject.model, std::move(head));
  return {.read = std::move(opened.values), .untrained = std::move(opened.untrained), .notes = std::move(opened.notes)};
}

ModelOrigin origin_of(const Config& config) { return {config.data.tokenizer, config.model.path}; }

WholeParameterReader whole_parameters(const ModelDefinition& model, const ParameterReader& read) {
  return [&model, read](int unit, int index, std::vector<float>& out) {
    const ParameterInfo& parameter = nth(model.unit(unit).parameters, index);
    out.resize(static_cast<size_t>(parameter.num_elements()));
    read(parameter, 0, parameter.num_elements(), out.data());
  };
}

std::vector<std::string> save_model(const std::string& directory, const ModelDefinition& model, const ModelOrigin& origin,
                                    const WholeParameterReader& read, DType type) {
  std::map<int64_t, std::pair<int, int>> places;  // by first element
  for (size_t u = 0; u < model.units().size(); ++u)
    for (size_t i = 0; i < model.units()[u].parameters.size(); ++i)
      places[model.units()[u].parameters[i].first] = {static_cast<int>(u), static_cast<int>(i)};
  std::vector<float> values;
  int64_t held = -1;
  const auto part = [&](const ParameterInfo& parameter, int64_t begin, int64_t count, float* out) {
    if (held != parameter.first) {
      const auto [unit, index] = places.at(parameter.first);
      read(unit, index, values);
      held = parameter.first;
    }
    std::copy_n(values.data() + begin, count, out);
  };
  write_hugging_face_model(directory, model, part, {.type = type});
  const nlohmann::json config = nlohmann::json::parse(model.hugging_face_config());
  std::vector<std::string> notes = copy_companions(origin, config.value("model_type", ""), directory);
  if (config.value("classifier_pooling", "") == "mean")
    notes.push_back(fmt::format(
        "{}: transformers does not know classifier_pooling \"mean\": its {} would classify by a dense layer of random values. This program "
        "reads the directory as it is; for other tools train with model.classifier_pooling \"cls\"",
        directory, sequence_classification(config.value("model_type", ""))));
  return notes;
}

bool is_checkpoint(const std::string& directory) {
  std::error_code error;
  return fs::exists(fs::path(directory) / Manifest::kFile, error);
}

SavedModel open_model(const std::string& directory) {
  check_no_run_folder(directory);
  if (is_checkpoint(directory)) return open_model_of_checkpoint(directory);
  HuggingFaceModel opened = open_hugging_face_model(directory);
  return {.model = std::move(opened.model),
          .read = std::move(opened.values),
          .origin = {directory, directory},
          .notes = std::move(opened.notes)};
}

ModelValues parameters_of_model(const std::string& directory, const Subject& subject) {
  check_no_run_folder(directory);
  std::vector<std::string> notes;
  check_tokenizer(directory, subject, notes);
  // What such a directory is for may be another thing than the prompt's words: it is asked for the parameters alone.
  if (subject.prompt && !is_checkpoint(directory)) {
    HuggingFaceValues opened = open_hugging_face_values(directory, *subject.model);
    notes.insert(notes.end(), opened.notes.begin(), opened.notes.end());
    return {.read = std::move(opened.values), .notes = std::move(notes)};
  }
  SavedModel saved = open_model(directory);
  check_same_model(directory, subject, *saved.model);
  subject.model->name_classes(saved.model->class_names());
  notes.insert(notes.end(), saved.notes.begin(), saved.notes.end());
  return {.read = std::move(saved.read), .notes = std::move(notes)};
}

std::unique_ptr<Tokenizer> tokenizer_of_model(const std::string& directory, const ModelDefinition& model) {
  if (is_checkpoint(directory)) {
    const std::string name = origin_of(read_manifest(directory)).tokenizer;
    return name == "byte" ? make_byte_tokenizer() : load_tokenizer(name);
  }
  if (!tokenizer_files(directory).empty()) return load_tokenizer(directory);
  auto bytes = make_byte_tokenizer();
  if (model.vocabulary_size() < bytes->vocabulary_size() || model.vocabulary_size() > 2 * bytes->vocabulary_size())
    fail_input(
        "{} holds no tokenizer (tokenizer.json, vocab.json with merges.txt, or vocab.txt), and the model's vocabulary of {} is not that of "
        "bytes ({}): name the tokenizer with --tokenizer",
        directory, model.vocabulary_size(), bytes->vocabulary_size());
  if (model.vocabulary_size() != bytes->vocabulary_size())
    print_err("warning: {} holds no tokenizer: its tokens are taken as bytes, of which there are {}, and its vocabulary is {}\n", directory,
              bytes->vocabulary_size(), model.vocabulary_size());
  return bytes;
}

std::vector<int32_t> end_tokens_of_model(const std::string& directory) {
  if (directory.empty()) return {};
  for (const char* name : {"generation_config.json", "config.json"}) {
    const fs::path path = fs::path(directory) / name;
    if (!fs::exists(path)) continue;
    const nlohmann::json config = read_json_object(path.string());
    const auto found = config.find("eos_token_id");
    if (found == config.end() || found->is_null()) continue;
    const nlohmann::json list = found->is_array() ? *found : nlohmann::json::array({*found});
    std::vector<int32_t> out;
    for (const nlohmann::json& id : list) {
      if (!id.is_number_integer()) fail_input("{}: eos_token_id is {}; expected a token or a list of tokens", path.string(), found->dump());
      out.push_back(id.get<int32_t>());
    }
    return out;
  }
  return {};
}

}  // namespace zerostep
