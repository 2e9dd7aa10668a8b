#include "launch/resume.h"

#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "launch/run_folder.h"
#include "launch/train_run.h"
#include "runtime/checkpoint/run_state.h"

namespace zerostep {
namespace {

using Json = nlohmann::ordered_json;

// Dropout may change between runs of one model; everything else decides what the numbers in a checkpoint mean.
bool is_dropout(const std::string& key) { return key.ends_with("pdrop") || key.ends_with("dropout") || key.ends_with("dropout_prob"); }

std::string text_of(const Json& object, const std::string& key) { return object.contains(key) ? object.at(key).dump() : "missing"; }

// Keys whose values differ in two objects.
std::vector<std::string> different_keys(const Json& a, const Json& b) {
  std::vector<std::string> out;
  for (const auto& [key, value] : a.items())
    if (text_of(a, key) != text_of(b, key)) out.push_back(key);
  for (const auto& [key, value] : b.items())
    if (!a.contains(key)) out.push_back(key);
  return out;
}

// Blocks of the configuration that decide what a step computes and are not part of the identity.
bool changes_steps(const std::string& path) {
  for (const char* block : {"/optimizer", "/scheduler", "/step", "/gradient_clipping", "/fp16", "/gradient_predivide_factor"})
    if (path.starts_with(block)) return true;
  return false;
}

}  // namespace

std::string checkpoints_folder(const Config& config) { return (std::filesystem::path(run_folder_path(config)) / "checkpoints").string(); }

std::unique_ptr<CheckpointReader> open_checkpoint(Job& job, const std::string& where, const Config& config) {
  std::unique_ptr<CheckpointReader> out;
  job.together("manifest of the checkpoint",
               [&] { out = std::make_unique<CheckpointReader>(where.empty() ? latest_checkpoint(checkpoints_folder(config)) : where); });
  job.together("files of the checkpoint", [&] {
    for (size_t file = 0; file < out->manifest().files.size(); ++file)
      if (static_cast<int>(file % static_cast<size_t>(job.size())) == job.rank()) out->verify(file);
  });
  job.together("checkpoint", [&] { out->open(); });
  return out;
}

Json identity_of(const TrainSetup& setup) {
  const Config& config = setup.config();
  Json out{{"tokenizer", setup.subject.tokenizer->fingerprint()},
           {"data.train", setup.train_data->fingerprint()},
           {"seed", config.seed},
           {"train_batch_size", config.batch.train_batch_size},
           {"data.sequence_length", config.data.sequence_length},
           {"precision", name_of(config.precision.compute)}};
  if (setup.backprop_data) out["data of backprop"] = setup.backprop_data->fingerprint();
  if (config.step.uses_queries()) out["step.query_batch_size"] = config.step.query_batch.train_batch_size;
  return out;
}

std::vector<std::string> check_same_run(const CheckpointReader& checkpoint, const TrainSetup& setup) {
  const Config& config = setup.config();
  const Manifest& manifest = checkpoint.manifest();
  const Json model = Json::parse(setup.subject.model->hugging_face_config());
  for (const std::string& key : different_keys(manifest.model, model))
    if (!is_dropout(key))
      fail_input("{}: model: {} is {} here and {} in the checkpoint {}: it is another model", config.file, key, text_of(model, key),
                 text_of(manifest.model, key), checkpoint.directory());
  check_holds(checkpoint, *setup.subject.model, &*setup.plan);

  std::vector<std::string> notes;
  const Json identity = identity_of(setup);
  std::string differences;
  for (const std::string& key : different_keys(manifest.identity, identity))
    differences += fmt::format("{}{} is {} here and {} in the checkpoint", differences.empty() ? "" : "; ", key, text_of(identity, key),
                               text_of(manifest.identity, key));
  if (!differences.empty() && !config.run.resume_anyway)
    fail_input(
        "{}: {}: {}. Going on would not be the same run; --set run.resume_anyway=true does it all the same (for tokenizer, data, seed, "
        "batch "
        "sizes, sequence_length and precision)",
        config.file, checkpoint.directory(), differences);
  if (!differences.empty()) notes.push_back("resumed anyway: " + differences);
  const auto before = manifest.configuration.flatten(), now = Json::parse(setup.subject.loaded.resolved_json).flatten();
  for (const std::string& path : different_keys(before, now))
    if (changes_steps(path))
      notes.push_back(
          fmt::format("goes on with {} {}; it was {} in the checkpoint", path.substr(1), text_of(now, path), text_of(before, path)));
  return notes;
}

}  // namespace zerostep
