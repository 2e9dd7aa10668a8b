#include "launch/subject.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <span>

#include "base/console.h"
#include "base/error.h"
#include "launch/device.h"
#include "models/model_options.h"
#include "models/tokenizer/unread_tokenizer.h"
#include "runtime/data/classification_stream.h"
#include "runtime/data/document_source.h"
#include "runtime/data/table_file.h"
#include "runtime/data/text_template.h"
#include "runtime/plan/check_patterns.h"

namespace zerostep {
namespace {

std::unique_ptr<ModelDefinition> model_of(const Config& config) {
  if (!config.model.path.empty()) return make_model_of(config.model.path, config.model.options);
  try {
    return make_model(config.model.options);
  } catch (const InputError& error) {
    fail_input("{}: {}", config.file, error.what());
  }
}

// The labels in their order and the prompt with their words.
void take_prompt(Subject& subject) {
  const DataConfig& data = subject.config().data;
  std::vector<std::string> words = data.label_words;
  if (!data.labels.empty()) {
    subject.labels = LabelNames::found_in_data(data.labels, static_cast<int64_t>(words.size()), "data.label_words");
    for (size_t i = 0; i < words.size(); ++i) words.at(static_cast<size_t>(subject.labels->index(data.labels[i]))) = data.label_words[i];
  }
  subject.prompt = std::make_shared<const PromptTemplate>(data.prompt, words, !subject.model->predicts_next_token(), *subject.tokenizer);
  subject.model = make_prompt_classifier(std::move(subject.model), subject.prompt->words());
}

// Labelled texts. The first set that is opened says which labels there are.
std::unique_ptr<DataStream> open_classification(Subject& subject, const DataOptions& given) {
  const DataConfig& data = subject.config().data;
  ClassificationOptions options;
  static_cast<DataOptions&>(options) = given;
  options.label_field = data.label_field;
  options.num_labels = subject.model->num_classes();
  options.padding = subject.model->padding_token();
  options.class_names = subject.model->class_names();
  options.labels = subject.labels;
  options.prompt = subject.prompt;
  auto out = ClassificationStream::open(options, *subject.tokenizer);
  if (!subject.labels) subject.labels = out->labels();
  // Numbers take no names away.
  const std::vector<std::string>& names = subject.labels->names();
  if (subject.model->class_names().empty() || !std::all_of(names.begin(), names.end(), is_whole_number)) subject.model->name_classes(names);
  return out;
}

// The fields without which rows are left out.
std::vector<std::string> required_fields(const std::vector<DocumentSource>& sources) {
  std::vector<std::string> names;
  for (const DocumentSource& source : sources)
    for (const std::string& name : TextTemplate(source).required_fields())
      if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
  return names;
}

DocumentSource document_source(const DataConfig& data, const SourceConfig& given) {
  DocumentSource source;
  source.name = given.name;
  source.key = given.catalogue.empty() ? given.key : fmt::format("{} ({} of the catalogue {})", given.key, given.name, given.catalogue);
  source.how_to_get = given.how_to_get;
  source.paths = given.files;
  source.split = given.split;
  source.text = given.text;
  source.text_field = data.text_field;
  source.join_fields = data.join_fields;
  source.skips_missing = given.skips_missing;
  source.max_documents = given.max_documents;
  source.weight = given.weight;
  return source;
}

std::vector<DocumentSource> document_sources(const DataConfig& data, std::span<const SourceConfig> given) {
  std::vector<DocumentSource> out;
  for (const SourceConfig& source : given) out.push_back(document_source(data, source));
  return out;
}

std::unique_ptr<DataStream> open_data(Subject& subject, DataOptions options, const DataHooks& hooks) {
  const Config& config = subject.config();
  if (options.sources.empty())
    fail_input("{}: {} names no file: give a path, a glob or a list of them ({})", config.source(options.key), options.key,
               config.model.classifies ? ".tsv, .csv, .jsonl, .parquet, .arrow" : ".txt, .jsonl, .parquet, .arrow, .bin");
  if (options.sequence_length == 0) options.sequence_length = config.data.sequence_length;
  options.seed = config.seed;
  options.cache = config.data.cache.empty() ? (std::filesystem::path(config.run.output_dir) / ".cache").string() : config.data.cache;
  if (!hooks.uses_cache) options.cache.clear();
  options.vocabulary_size = subject.model->vocabulary_size();
  options.progress = hooks.progress;
  options.warn = hooks.warn;
  options.remark = hooks.remark;
  options.before_reading = hooks.before_reading;
  auto stream = config.model.classifies ? open_classification(subject, options) : DataStream::open(options, *subject.tokenizer);
  if (stream->num_left_out() > 0 && hooks.note)
    hooks.note(fmt::format("{}: {} row{} left out, without {} (data.missing)", options.key, stream->num_left_out(),
                           stream->num_left_out() == 1 ? " is" : "s are", fmt::join(required_fields(options.sources), " or ")));
  return stream;
}

}  // namespace

std::unique_ptr<Tokenizer> tokenizer_of(const Config& config) {
  return config.data.tokenizer == "byte" ? make_byte_tokenizer() : load_tokenizer(config.data.tokenizer);
}

namespace {

// That of the model's directory, where nothing else names one, may be of a kind that is not read, as long as no text asks for it.
std::unique_ptr<Tokenizer> tokenizer_or_reason(LoadedConfig& loaded) {
  const Config& config = loaded.config;
  try {
    return tokenizer_of(config);
  } catch (const InputError& error) {
    if (config.data.tokenizer != config.model.path || !config.data.prompt.empty())
      fail_input("{}: data.tokenizer: {}", config.source("data.tokenizer"), error.what());
    loaded.warnings.push_back(
        fmt::format("{}; token files (.bin) need no tokenizer, texts and `generate` do: data.tokenizer names another", error.what()));
    return std::make_unique<UnreadTokenizer>(error.what(), sizes_of(config.model.options).vocabulary);
  }
}

// A score head of transformers takes batches only where the padding is named.
void name_padding(ModelOptions& options, const Tokenizer& tokenizer) {
  const bool scores = std::visit([](const auto& o) { return o.num_labels > 0; }, options) && !std::holds_alternative<BertOptions>(options);
  if (scores && tokenizer.padding() < sizes_of(options).vocabulary) set_special_token(options, "pad_token_id", tokenizer.padding());
}

// A model of sizes has the special tokens of its tokenizer: transformers has defaults, which are other tokens.
void name_special_tokens(ModelOptions& options, const Tokenizer& tokenizer) {
  const std::vector<int32_t> prefix = tokenizer.prefix();
  const auto* bert = std::get_if<BertOptions>(&options);
  // A RoBERTa's padding is an option, which positions depend on.
  if (bert != nullptr && bert->kind != BertOptions::Kind::Roberta) return set_special_token(options, "pad_token_id", tokenizer.padding());
  set_special_token(options, "bos_token_id", prefix.empty() ? tokenizer.end_of_document() : prefix.front());
  set_special_token(options, "eos_token_id", tokenizer.end_of_document());
}

}  // namespace

// Large enough for any token that a model's options name.
constexpr int64_t kNamedVocabulary = 1 << 24;

std::unique_ptr<ModelDefinition> model_of_names(const Config& config) {
  Config named = config;
  if (sizes_of(named.model.options).vocabulary == 0) set_vocabulary(named.model.options, kNamedVocabulary);
  return model_of(named);
}

Subject load_subject(const ConfigArguments& arguments, const Loading& loading) {
  Subject subject;
  subject.loaded = load_config({arguments.file, arguments.set, loading.world, arguments.text, loading.started});
  Config& config = subject.loaded.config;
  settle_device(config, loading.has_gpu);
  subject.tokenizer = tokenizer_or_reason(subject.loaded);
  if (sizes_of(config.model.options).vocabulary == 0) set_vocabulary(config.model.options, subject.tokenizer->vocabulary_size());
  if (config.model.path.empty()) name_special_tokens(config.model.options, *subject.tokenizer);
  name_padding(config.model.options, *subject.tokenizer);
  subject.model = model_of(config);
  if (loading.checks_patterns) check_patterns(config, *subject.model);
  if (!config.data.prompt.empty()) take_prompt(subject);
  // A GPU makes the logits of many rows part by part; a processor has them in its caches part by part, and works out none of them again.
  const bool factors = config.run.device == "cuda" && !config.model.classifies;
  subject.objective =
      factors ? make_factored_cross_entropy() : make_cross_entropy(config.model.classifies ? Labelled::Samples : Labelled::Tokens);
  return subject;
}

Subject load_subject_on_one_rank(ConfigArguments arguments, bool checks_patterns) {
  arguments.set.insert(arguments.set.end(), {{"step.direction_parallel=null", ""}, {"gradient_accumulation_steps=null", ""}});
  return load_subject(arguments, {.checks_patterns = checks_patterns});
}

DataHooks notes_to_stderr() {
  DataHooks hooks;
  hooks.note = [](const std::string& text) { print_err("{}\n", text); };
  return hooks;
}

void print_warnings(const LoadedConfig& loaded) {
  for (const std::string& warning : loaded.warnings) print_err("warning: {}\n", warning);
}

namespace {

// Calls visit(key, files) for each source of the `data` block, where files() gives those of it that are there.
template <typename Visit>
void for_each_source(const Config& config, const Visit& visit) {
  const DataConfig& data = config.data;
  for (const auto& [key, sources] : {std::pair("data.train", &data.train), std::pair("data.eval", &data.eval),
                                     std::pair("data.bp_train", &data.bp_train), std::pair("data.test", &data.test)}) {
    for (const SourceConfig& given : *sources) {
      DocumentSource source = document_source(data, given);
      source.key = config.source(given.key) + ": " + source.key;
      visit(key, [&] { return config.model.classifies ? table_files(source) : corpus_files(source); });
    }
  }
}

}  // namespace

std::vector<NamedPath> data_files(const Config& config) {
  std::vector<NamedPath> out;
  for_each_source(config, [&](const char* key, const auto& files) {
    for (const std::string& path : files()) out.push_back({key, path});
  });
  return out;
}

std::vector<std::string> wrong_data_files(const Config& config) {
  std::vector<std::string> out;
  for_each_source(config, [&](const char*, const auto& files) {
    try {
      files();
    } catch (const InputError& error) {
      out.emplace_back(error.what());
    }
  });
  return out;
}

std::unique_ptr<DataStream> open_training_data(Subject& subject, const DataHooks& hooks) {
  const DataConfig& data = subject.config().data;
  DataOptions options;
  options.key = "data.train";
  options.sources = document_sources(data, data.train);
  options.max_samples = data.max_samples;
  options.shuffle = data.shuffle;
  const StepConfig& step = subject.config().step;
  if (step.uses_queries()) options.sequence_length = step.query_sequence_length;
  if (step.uses_queries() && step.bp_data == StepConfig::BackpropData::Split) options.part = DataOptions::Part::Rest;
  options.first_share = step.bp_share;
  return open_data(subject, options, hooks);
}

std::unique_ptr<DataStream> open_backprop_data(Subject& subject, const DataHooks& hooks) {
  const Config& config = subject.config();
  const StepConfig& step = config.step;
  if (!step.uses_queries() || !step.uses_backprop()) return nullptr;
  const bool own = step.bp_data == StepConfig::BackpropData::Own, split = step.bp_data == StepConfig::BackpropData::Split;
  if (config.reads_one_stream()) return nullptr;
  DataOptions options;
  options.key = own ? "data.bp_train" : "data.train";
  options.sources = document_sources(config.data, own ? config.data.bp_train : config.data.train);
  options.max_samples = own ? 0 : config.data.max_samples;
  options.shuffle = config.data.shuffle;
  if (split) options.part = DataOptions::Part::First;
  options.first_share = step.bp_share;
  return open_data(subject, options, hooks);
}

namespace {

// A set is every source that has a name, or all of them where they have none.
std::vector<EvaluationSet> open_sets(Subject& subject, const std::string& key, const std::vector<SourceConfig>& sources,
                                     const DataHooks& hooks) {
  if (subject.config().model.classifies && !subject.labels && !subject.config().data.train.empty()) open_training_data(subject, hooks);
  const bool is_named = !sources.empty() && !sources.front().name.empty();
  std::vector<EvaluationSet> out;
  for (size_t i = 0; i < (is_named ? sources.size() : 1); ++i) {
    const std::span<const SourceConfig> of_set = is_named ? std::span(sources).subspan(i, 1) : std::span(sources);
    DataOptions options;
    options.key = is_named ? sources[i].key : key;
    options.sources = document_sources(subject.config().data, of_set);
    options.max_samples = key == "data.eval" ? subject.config().run.eval_samples : 0;
    options.spread = true;
    options.shuffle = false;
    out.push_back({is_named ? sources[i].name : "", open_data(subject, options, hooks)});
  }
  return out;
}

}  // namespace

std::vector<EvaluationSet> open_evaluation_data(Subject& subject, const DataHooks& hooks) {
  return open_sets(subject, "data.eval", subject.config().data.eval, hooks);
}

std::vector<EvaluationSet> open_test_data(Subject& subject, const DataHooks& hooks) {
  return open_sets(subject, "data.test", subject.config().data.test, hooks);
}

}  // namespace zerostep
