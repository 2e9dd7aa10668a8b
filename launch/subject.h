#pragma once
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "launch/commands/commands.h"
#include "models/model.h"
#include "models/objective.h"
#include "models/tokenizer/tokenizer.h"
#include "runtime/config/load_config.h"
#include "runtime/data/data_stream.h"
#include "runtime/data/label_names.h"
#include "runtime/data/prompt_template.h"

namespace zerostep {

// A path that the user gave, and by which key of the configuration or option.
struct NamedPath {
  std::string name, path;
};

// What a configuration file speaks of: its values, the tokenizer, the model as data and the objective. Nothing large is allocated.
struct Subject {
  LoadedConfig loaded;
  std::unique_ptr<Tokenizer> tokenizer;
  std::unique_ptr<ModelDefinition> model;
  std::unique_ptr<Objective> objective;
  std::optional<LabelNames> labels;  // of a classifier, once they are given or its training data is open
  std::shared_ptr<const PromptTemplate> prompt;
  const Config& config() const { return loaded.config; }
};
struct Loading {
  int world = 1;                     // ranks
  std::string started = {};          // as ConfigRequest::started
  bool checks_patterns = true;       // false: for whoever lists the names that patterns may match
  std::optional<bool> has_gpu = {};  // that run.device "auto" takes; nothing: whether one answers here
};
// vocab_size of the model is the tokenizer's where the file gives none. InputError.
Subject load_subject(const ConfigArguments& arguments, const Loading& loading);
// For commands that run on one rank what a file for many describes: without what only divides by the number of ranks of its training.
Subject load_subject_on_one_rank(ConfigArguments arguments, bool checks_patterns = true);
// The model of a file whose tokenizer is not loaded, for the names of its parameters: where the tokenizer says the vocabulary it has
// some.
std::unique_ptr<ModelDefinition> model_of_names(const Config& config);
// Warnings of the configuration to stderr.
void print_warnings(const LoadedConfig& loaded);

// The tokenizer that data.tokenizer names.
std::unique_ptr<Tokenizer> tokenizer_of(const Config& config);

// Opens data.train and its like. InputError where the file names none, or what DataStream::open throws.
struct DataHooks {
  std::function<void(const TokenizeProgress&)> progress;
  std::function<void(const std::string&)> warn;
  std::function<void(const std::string&)> remark;  // of what the texts hold, the same on every rank; default: as `warn`
  std::function<void(const std::string&)> note;    // what is the same on every rank: how many rows are left out
  std::function<void(int64_t)> before_reading;     // as DataOptions
  bool uses_cache = true;                          // false: tokens are made for this stream alone
};
// A line to stderr for each.
DataHooks notes_to_stderr();
// Every file that the `data` block names is there and of a known kind; reads none. InputError naming the key. Gives them with their keys.
std::vector<NamedPath> data_files(const Config& config);
// What it would say of each source that is wrong; none: nothing is.
std::vector<std::string> wrong_data_files(const Config& config);
// What train_batch_size and the steps count: the samples of backprop in mode fo, of the queries in every other.
std::unique_ptr<DataStream> open_training_data(Subject& subject, const DataHooks& hooks = {});
// Of the backprop steps of a mode that mixes both kinds; nullptr where they read the same stream.
std::unique_ptr<DataStream> open_backprop_data(Subject& subject, const DataHooks& hooks = {});
// What is evaluated by itself.
struct EvaluationSet {
  std::string name;  // "": there is one set, without a name
  std::unique_ptr<DataStream> data;
};
// data.eval, one set at least: each source that has a name is one, or all together are. Opens the training data too where a classifier
// takes its labels from there.
std::vector<EvaluationSet> open_evaluation_data(Subject& subject, const DataHooks& hooks = {});
// The same of data.test, all of its samples.
std::vector<EvaluationSet> open_test_data(Subject& subject, const DataHooks& hooks = {});

}  // namespace zerostep
