#include "launch/subject.h"

#include <fmt/format.h>

#include <cstdio>
#include <filesystem>

#include "base/error.h"
#include "models/gpt2/gpt2.h"

namespace zerostep {
namespace {

std::unique_ptr<ModelDefinition> model_of(const ModelConfig& m) {
  Gpt2Options o;
  o.n_layer = m.n_layer;
  o.n_embd = m.n_embd;
  o.n_head = m.n_head;
  o.n_positions = m.n_positions;
  o.n_inner = m.n_inner;
  o.vocab_size = m.vocab_size;
  o.layer_norm_epsilon = m.layer_norm_epsilon;
  o.initializer_range = m.initializer_range;
  o.resid_pdrop = m.resid_pdrop;
  o.embd_pdrop = m.embd_pdrop;
  o.attn_pdrop = m.attn_pdrop;
  o.tie_word_embeddings = m.tie_word_embeddings;
  return make_gpt2(o);
}

std::unique_ptr<DataStream> open_data(const Subject& subject, DataOptions options, const DataHooks& hooks) {
  const Config& config = subject.config();
  if (options.paths.empty())
    fail_input("{}: {} is missing: give a path, a glob or a list of them (.txt, .jsonl, .bin)", config.file, options.key);
  options.text_field = config.data.text_field;
  options.join_fields = config.data.join_fields;
  if (options.sequence_length == 0) options.sequence_length = config.data.sequence_length;
  options.seed = config.seed;
  options.cache = config.data.cache.empty() ? (std::filesystem::path(config.run.output_dir) / ".cache").string() : config.data.cache;
  options.vocabulary_size = subject.model->vocabulary_size();
  options.progress = hooks.progress;
  options.warn = hooks.warn;
  return DataStream::open(options, *subject.tokenizer);
}

}  // namespace

std::unique_ptr<Tokenizer> tokenizer_of(const Config& config) {
  return config.data.tokenizer == "byte" ? make_byte_tokenizer() : load_tokenizer(config.data.tokenizer);
}

Subject load_subject(const ConfigArguments& arguments, int world) {
  Subject subject;
  subject.loaded = load_config({arguments.file, arguments.set, world});
  Config& config = subject.loaded.config;
  subject.tokenizer = tokenizer_of(config);
  if (config.model.vocab_size == 0) config.model.vocab_size = subject.tokenizer->vocabulary_size();
  subject.model = model_of(config.model);
  subject.objective = make_cross_entropy();
  return subject;
}

Subject load_subject_on_one_rank(ConfigArguments arguments) {
  arguments.set.insert(arguments.set.end(), {"step.direction_parallel=null", "gradient_accumulation_steps=null"});
  return load_subject(arguments, 1);
}

void print_warnings(const LoadedConfig& loaded) {
  for (const std::string& warning : loaded.warnings) fmt::print(stderr, "warning: {}\n", warning);
}

std::unique_ptr<DataStream> open_training_data(const Subject& subject, const DataHooks& hooks) {
  const DataConfig& data = subject.config().data;
  DataOptions options;
  options.paths = data.train;
  options.key = "data.train";
  options.max_samples = data.max_samples;
  options.shuffle = data.shuffle;
  const StepConfig& step = subject.config().step;
  if (step.uses_queries()) options.sequence_length = step.query_sequence_length;
  if (step.uses_queries() && step.bp_data == StepConfig::BackpropData::Split) options.part = DataOptions::Part::SecondHalf;
  return open_data(subject, options, hooks);
}

std::unique_ptr<DataStream> open_backprop_data(const Subject& subject, const DataHooks& hooks) {
  const Config& config = subject.config();
  const StepConfig& step = config.step;
  if (!step.uses_queries() || !step.uses_backprop()) return nullptr;
  const bool own = step.bp_data == StepConfig::BackpropData::Own, split = step.bp_data == StepConfig::BackpropData::Split;
  if (!own && !split && step.query_sequence_length == config.data.sequence_length) return nullptr;
  DataOptions options;
  options.paths = own ? config.data.bp_train : config.data.train;
  options.key = own ? "data.bp_train" : "data.train";
  options.max_samples = own ? 0 : config.data.max_samples;
  options.shuffle = config.data.shuffle;
  if (split) options.part = DataOptions::Part::FirstHalf;
  return open_data(subject, options, hooks);
}

std::unique_ptr<DataStream> open_evaluation_data(const Subject& subject, const DataHooks& hooks) {
  DataOptions options;
  options.paths = subject.config().data.eval;
  options.key = "data.eval";
  options.max_samples = subject.config().run.eval_samples;
  options.shuffle = false;
  return open_data(subject, options, hooks);
}

}  // namespace zerostep
