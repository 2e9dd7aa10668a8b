#include <ATen/core/Tensor.h>

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>

#include "base/console.h"
#include "base/error.h"
#include "base/format.h"
#include "base/nth.h"
#include "launch/commands/commands.h"
#include "launch/subject.h"
#include "models/gpt2/gpt2.h"
#include "runtime/strategy/directions.h"
#include "runtime/strategy/step_kind.h"

namespace zerostep {
namespace {

void append_rows(const at::Tensor& rows, std::vector<std::vector<int64_t>>& out) {
  const int64_t width = rows.size(1), *values = rows.const_data_ptr<int64_t>();
  for (int64_t r = 0; r < rows.size(0); ++r) out.emplace_back(values + r * width, values + (r + 1) * width);
}

// Global batch `step` as one rank with one micro-batch sees it, with the labels that training uses.
nlohmann::ordered_json batch_json(const DataStream& data, int64_t step, int64_t batch_size, bool classifies) {
  nlohmann::ordered_json out;
  if (const std::vector<SampleSource> sources = data.sources(); sources.size() > 1)
    for (const int64_t source : data.sources_of_batch(step, batch_size)) out["sources"].push_back(nth(sources, source).name);
  const Batch batch = data.batch(step, 0, {batch_size, batch_size, 0, 1});
  auto& samples = out["samples"] = nlohmann::ordered_json::array();
  std::vector<std::vector<int64_t>> tokens, labels;
  if (classifies) append_rows(batch.tokens, tokens);
  for (int64_t j = 0; !classifies && j < batch_size; ++j) samples.push_back(data.sample(step * batch_size + j));
  for (size_t j = 0; j < tokens.size(); ++j) {
    // Without the padding.
    if (batch.mask.defined()) tokens[j].resize(static_cast<size_t>(batch.mask[static_cast<int64_t>(j)].sum().item<int64_t>()));
    samples.push_back(tokens[j]);
  }
  append_rows(batch.labels, labels);
  out["labels"] = labels;
  if (batch.word_positions.defined()) {
    const int64_t* first = batch.word_positions.const_data_ptr<int64_t>();
    out["word_positions"] = std::vector<int64_t>(first, first + batch.word_positions.numel());
  }
  return out;
}

}  // namespace

int inspect_batches(const InspectBatchesArguments& arguments) {
  Subject subject = load_subject(arguments, {.world = arguments.world});
  print_warnings(subject.loaded);
  const auto data = open_training_data(subject, notes_to_stderr()), own = open_backprop_data(subject, notes_to_stderr());
  const StepConfig& kind = subject.config().step;
  const int64_t backprop_samples = subject.config().batch.train_batch_size;
  // The directions' batches follow one another where each has its own.
  const int64_t samples =
      !kind.uses_queries() ? backprop_samples : kind.query_batch.train_batch_size * (kind.independent_data ? kind.queries : 1);
  if (arguments.first_step + arguments.steps > std::numeric_limits<int64_t>::max() / std::max(samples, backprop_samples))
    fail_input("inspect batches: --first {} and --steps {} reach beyond what can be counted in samples, of which a step takes {}",
               arguments.first_step, arguments.steps, std::max(samples, backprop_samples));
  for (int64_t step = arguments.first_step; step < arguments.first_step + arguments.steps; ++step) {
    nlohmann::ordered_json line = batch_json(*data, step, samples, subject.config().model.classifies);
    line["step"] = step;
    if (kind.uses_queries() && step_kind(kind, step).backprop)
      line["backprop"] = batch_json(own ? *own : *data, step, backprop_samples, subject.config().model.classifies);
    print_out("{}\n", line.dump());
  }
  return kDone;
}

int inspect_noise(const InspectNoiseArguments& arguments) {
  const Subject subject = load_subject_on_one_rank(arguments);
  if (!subject.config().step.uses_queries())
    fail_input("{}: step.mode is \"fo\", which makes no directions: choose zo, calibrate, instruct or alternating",
               subject.config().source("step.mode"));
  if (const int64_t queries = subject.config().step.queries; arguments.direction >= queries)
    fail_input("inspect noise: --direction {} is none of the {} of a step (step.queries of {}): expected 0 to {}", arguments.direction,
               queries, subject.config().file, queries - 1);
  const int64_t total = subject.model->num_elements(), end = arguments.begin + arguments.count;
  if (end > total)
    fail_input("inspect noise: elements {} to {} reach beyond the model's {}", grouped(arguments.begin), grouped(end), grouped(total));
  const Directions directions(subject.config().step, subject.config().seed);
  std::vector<float> values(static_cast<size_t>(arguments.count));
  for (const UnitInfo& unit : subject.model->units())
    for (const ParameterInfo& p : unit.parameters) {
      const int64_t from = std::max(arguments.begin, p.first), to = std::min(end, p.first + p.num_elements());
      if (from < to)
        directions.values(arguments.step, arguments.direction, p, from - p.first, to - from, values.data() + (from - arguments.begin));
    }
  print_out("{}\n", nlohmann::json(values).dump());
  return kDone;
}

int inspect_model(const ConfigArguments& arguments) {
  const Subject subject = load_subject_on_one_rank(arguments, /*checks_patterns=*/false);
  print_warnings(subject.loaded);
  nlohmann::ordered_json out;
  out["units"] = nlohmann::ordered_json::array();
  for (const UnitInfo& unit : subject.model->units()) {
    nlohmann::ordered_json parameters = nlohmann::ordered_json::array();
    for (const ParameterInfo& p : unit.parameters) parameters.push_back({{"name", p.name}, {"shape", p.shape}, {"first", p.first}});
    out["units"].push_back({{"name", unit.name}, {"parameters", parameters}});
  }
  out["elements"] = subject.model->num_elements();
  print_out("{}\n", out.dump(1));
  return kDone;
}

int inspect_presets(bool json) {
  nlohmann::ordered_json out = nlohmann::ordered_json::array();
  for (const Gpt2Preset& preset : gpt2_presets()) {
    Gpt2Options options;
    options.n_layer = preset.n_layer;
    options.n_embd = preset.n_embd;
    options.n_head = preset.n_head;
    options.n_positions = preset.n_positions;
    out.push_back({{"preset", preset.name},
                   {"family", "gpt2"},
                   {"n_layer", preset.n_layer},
                   {"n_embd", preset.n_embd},
                   {"n_head", preset.n_head},
                   {"n_positions", preset.n_positions},
                   {"vocab_size", options.vocab_size},
                   {"parameters", make_gpt2(options)->num_elements()}});
  }
  if (json) {
    print_out("{}\n", out.dump(1));
    return kDone;
  }
  print_out("{:<12}{:>9}{:>9}{:>9}{:>13}{:>18}\n", "preset", "n_layer", "n_embd", "n_head", "n_positions", "parameters");
  for (const auto& p : out)
    print_out("{:<12}{:>9}{:>9}{:>9}{:>13}{:>18}\n", p["preset"].get<std::string>(), p["n_layer"].get<int64_t>(),
              p["n_embd"].get<int64_t>(), p["n_head"].get<int64_t>(), p["n_positions"].get<int64_t>(),
              grouped(p["parameters"].get<int64_t>()));
  print_out("Parameters with GPT-2's vocabulary of {} tokens; a file names one as model.preset, and may give another model.vocab_size.\n",
            grouped(out[0]["vocab_size"].get<int64_t>()));
  return kDone;
}

}  // namespace zerostep
