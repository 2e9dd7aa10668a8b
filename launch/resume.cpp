#include "launch/resume.h"

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/content_hash.h"
#include "base/error.h"
#include "base/first_names.h"
#include "launch/agreement.h"
#include "launch/run_folder.h"
#include "launch/train_run.h"
#include "runtime/checkpoint/data_changes.h"
#include "runtime/checkpoint/run_state.h"

namespace zerostep {
namespace {

using Json = nlohmann::ordered_json;
namespace fs = std::filesystem;

// Dropout may change between runs of one model; everything else decides what the numbers in a checkpoint mean.
bool is_dropout(const std::string& key) { return key.ends_with("pdrop") || key.ends_with("dropout") || key.ends_with("dropout_prob"); }

// Nor do the keys that only exports need.
// What a model is called by, not what it computes.
bool is_carried(const std::string& key) { return key.ends_with("_token_id") || key == "id2label" || key == "label2id"; }

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

// A key as people write it: "/step/mode" is step.mode.
std::string dotted(const std::string& path) {
  std::string out = path.substr(1);
  std::replace(out.begin(), out.end(), '/', '.');
  return out;
}

// Blocks of the configuration that decide what a step computes and are not part of the identity.
bool changes_steps(const std::string& path) {
  for (const char* block : {"/optimizer", "/scheduler", "/step", "/gradient_clipping", "/fp16", "/gradient_predivide_factor"})
    if (path.starts_with(block)) return true;
  return false;
}

// What identity_of() calls the fingerprints.
constexpr const char *kTokenizer = "tokenizer", *kTrainData = "data.train", *kBackpropData = "data of backprop";
constexpr const char* kOwnData = "data.bp_train";  // of backprop, where it does not share data.train
bool is_own(const Config& config) { return config.step.bp_data == StepConfig::BackpropData::Own; }

std::vector<std::string> files_of(const std::vector<SourceConfig>& sources) {
  std::vector<std::string> out;
  for (const SourceConfig& source : sources) out.insert(out.end(), source.files.begin(), source.files.end());
  return out;
}

// What has made a fingerprint another, where no value of the configuration has.
std::string other_content(const Config& config, const std::string& key) {
  if (key == kTokenizer)
    return fmt::format("the tokenizer that data.tokenizer names, {}, is another than in the checkpoint", config.data.tokenizer);
  const bool is_of_backprop = key == kBackpropData && is_own(config);
  const std::vector<SourceConfig>& sources = is_of_backprop ? config.data.bp_train : config.data.train;
  const auto by_name = std::find_if(sources.begin(), sources.end(), [](const SourceConfig& source) { return !source.catalogue.empty(); });
  return fmt::format("the content of the files of {} has changed since the checkpoint, or which files there are{}: {}",
                     is_of_backprop ? kOwnData : kTrainData,
                     by_name == sources.end() ? "" : ", or what the catalogue " + by_name->catalogue + " says of them",
                     first_names(files_of(sources)));
}

// Where the identity of a run differs from that of a checkpoint. Fingerprints tell people nothing: what stands for them is the values that
// made them, or that the files themselves have changed.
std::vector<std::string> identity_changes(const Manifest& manifest, const Json& identity, const Json& resolved, const Config& config) {
  std::vector<std::string> out;
  const auto add = [&](const std::string& change) {
    if (std::find(out.begin(), out.end(), change) == out.end()) out.push_back(change);
  };
  const std::vector<std::string> keys = different_keys(manifest.identity, identity);
  const bool is_same_tokenizer = std::find(keys.begin(), keys.end(), kTokenizer) == keys.end();
  for (const std::string& key : keys) {
    if (key != kTokenizer && key != kTrainData && key != kBackpropData) {
      add(fmt::format("{} is {} here and {} in the checkpoint", key, text_of(identity, key), text_of(manifest.identity, key)));
      continue;
    }
    if (!identity.contains(key) || !manifest.identity.contains(key)) {
      add(fmt::format("{} is {}", key,
                      identity.contains(key) ? "there here and not in the checkpoint" : "there in the checkpoint and not here"));
      continue;
    }
    std::vector<std::string> changes =
        data_changes(resolved, manifest.configuration, key == kBackpropData && is_own(config) ? kOwnData : kTrainData);
    if (key == kTokenizer) std::erase_if(changes, [](const std::string& change) { return !change.starts_with("data.tokenizer "); });
    // Another tokenizer makes other tokens of the same files.
    if (changes.empty() && (key == kTokenizer || is_same_tokenizer)) changes.push_back(other_content(config, key));
    for (const std::string& change : changes) add(change);
  }
  return out;
}

}  // namespace

std::string checkpoints_folder(const Config& config) { return (std::filesystem::path(run_folder_path(config)) / "checkpoints").string(); }

std::string checkpoint_to_resume(const std::string& where, const Config& config) {
  return where.empty() ? latest_checkpoint(checkpoints_folder(config)) : checkpoint_named_by(where);
}

std::unique_ptr<CheckpointReader> open_checkpoint(Job& job, const std::string& where, const Config& config) {
  std::unique_ptr<CheckpointReader> out;
  job.together("manifest of the checkpoint", [&] { out = std::make_unique<CheckpointReader>(checkpoint_to_resume(where, config)); });
  require_same_inputs(job, {{out->directory(), ContentHash().add(manifest_text(out->manifest())).hex()}});
  job.together("files of the checkpoint", [&] {
    for (size_t file = 0; file < out->manifest().files.size(); ++file)
      if (static_cast<int>(file % static_cast<size_t>(job.size())) == job.rank()) out->verify(file);
  });
  job.together("checkpoint", [&] { out->open(); });
  return out;
}

bool settle_resumed_run(const std::string& where, Config& config) {
  if (where.empty() && !config.run.is_named)
    fail_input(
        "{}: --resume alone takes the latest checkpoint of the run that run.name names, and it names none: set run.name, or name the "
        "checkpoint, as in --resume {}",
        config.source("run.name"), (fs::path(config.run.output_dir) / "NAME/checkpoints/step_00001000").string());
  std::error_code error;
  const std::string named = checkpoint_to_resume(where, config);
  const fs::path directory = fs::canonical(named, error);
  const auto no_checkpoint = [&](const std::string& why) {
    fail_input("--resume {}: {}. Name a checkpoint, as runs/NAME/checkpoints/step_00001000; --resume alone takes the latest of the run",
               named, why);
  };
  if (error) no_checkpoint("there is no such checkpoint: " + error.message());
  if (fs::status(directory / Manifest::kFile, error).type() == fs::file_type::not_found)
    no_checkpoint(fmt::format("is no checkpoint: it holds no {}", Manifest::kFile));
  const fs::path folder = directory.parent_path();
  if (!config.run.is_named && folder.filename() == "checkpoints" && fs::equivalent(folder / "../..", config.run.output_dir, error))
    config.run.name = folder.parent_path().filename().string();
  return fs::equivalent(folder, checkpoints_folder(config), error);
}

Json identity_of(const TrainSetup& setup) {
  const Config& config = setup.config();
  Json out{{kTokenizer, setup.subject.tokenizer->fingerprint()},
           {kTrainData, setup.train_data->fingerprint()},
           {"seed", config.seed},
           {"train_batch_size", config.batch.train_batch_size},
           {"data.sequence_length", config.data.sequence_length},
           {"precision", name_of(config.precision.compute)}};
  if (setup.backprop_data) out[kBackpropData] = setup.backprop_data->fingerprint();
  if (config.step.uses_queries()) out["step.query_batch_size"] = config.step.query_batch.train_batch_size;
  return out;
}

std::vector<std::string> check_same_run(const CheckpointReader& checkpoint, const TrainSetup& setup) {
  const Config& config = setup.config();
  const Manifest& manifest = checkpoint.manifest();
  const Json model = Json::parse(setup.subject.model->hugging_face_config());
  for (const std::string& key : different_keys(manifest.model, model))
    if (!is_dropout(key) && !is_carried(key))
      fail_input("{}: model: {} is {} here and {} in the checkpoint {}: it is another model", config.source("model." + key), key,
                 text_of(model, key), text_of(manifest.model, key), checkpoint.directory());
  check_holds(checkpoint, *setup.subject.model, &*setup.plan);
  const Json flat_before = manifest.configuration.flatten(), flat_now = Json::parse(setup.subject.loaded.resolved_json).flatten();
  if (!setup.plan->any_step().options.update ||
      setup.plan->any_step().options.optimizer_state_values + setup.plan->any_step().options.matrix_state_values > 0)
    for (const char* path : {"/optimizer/type", "/step/state"}) {
      const auto kind = [&](const Json& flat) {
        return text_of(flat, path) == "\"Adam\"" ? std::string("\"AdamW\"") : text_of(flat, path);
      };
      if (kind(flat_before) != kind(flat_now))
        fail_input("{}: {} is {} here and {} in the checkpoint {}: the optimizer's state is of another kind", config.source(dotted(path)),
                   dotted(path), text_of(flat_now, path), text_of(flat_before, path), checkpoint.directory());
    }

  std::vector<std::string> notes;
  const Json identity = identity_of(setup);
  const auto change = [&](const std::string& path) {
    return fmt::format("{} is {} here and {} in the checkpoint", dotted(path), text_of(flat_now, path), text_of(flat_before, path));
  };
  std::string differences =
      fmt::format("{}", fmt::join(identity_changes(manifest, identity, Json::parse(setup.subject.loaded.resolved_json), config), "; "));
  // Sizes of batches that only one of two modes has would hide what was changed.
  if (!differences.empty() && text_of(flat_before, "/step/mode") != text_of(flat_now, "/step/mode"))
    differences = change("/step/mode") + "; " + differences;
  if (!differences.empty() && !config.run.resume_anyway)
    fail_input(
        "{}: {}: {}. Going on would not be the same run; --set run.resume_anyway=true does it all the same (for tokenizer, data, seed, "
        "batch sizes, sequence_length and precision)",
        config.file, checkpoint.directory(), differences);
  if (!differences.empty()) notes.push_back("resumed anyway: " + differences);
  for (const std::string& path : different_keys(flat_before, flat_now))
    if (changes_steps(path) || is_dropout(path))
      notes.push_back(fmt::format("goes on with {} {}; it was {} in the checkpoint", dotted(path), text_of(flat_now, path),
                                  text_of(flat_before, path)));
  const auto keeps = [](const Json& flat) {
    return flat.value("/run/checkpoint_interval", int64_t{0}) > 0 || flat.value("/run/keep_best", false);
  };
  if (keeps(flat_before) && !keeps(flat_now))
    notes.push_back(
        fmt::format("goes on without checkpoints: run.checkpoint_interval is 0; it was {} in the checkpoint. What is trained from here on "
                    "cannot be resumed",
                    text_of(flat_before, "/run/checkpoint_interval")));
  const auto steps = [](const Json& flat) { return text_of(flat, "/run/steps"); };
  if (config.scheduler.type != SchedulerConfig::Type::None && steps(flat_before) != steps(flat_now) &&
      text_of(flat_now, "/scheduler/params/total_num_steps") == "missing")
    notes.push_back(
        fmt::format("run.steps is {}; it was {} in the checkpoint: a schedule that takes its length from it goes on with the new one",
                    steps(flat_now), steps(flat_before)));
  return notes;
}

}  // namespace zerostep
