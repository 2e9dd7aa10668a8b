#include "models/prompt_classifier.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/index.h>
#include <ATen/ops/index_select.h>
#include <ATen/ops/log_softmax.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>

#include <algorithm>

#include "base/error.h"
#include "base/nth.h"
#include "models/branches.h"
#include "models/cost_parts.h"
#include "models/unit_inputs.h"

namespace zerostep {

namespace {

// Which tokens of a sample predict words, as (row of the sample, offset from word_positions); and for each word's token, which of them it
// is read off.
struct WordPlan {
  explicit WordPlan(const LabelWords& words) : single(words.share_row) {
    for (size_t c = 0; c < words.tokens.size(); ++c) {
      const auto length = static_cast<int64_t>(words.tokens[c].size());
      single = single && length == 1;
      for (int64_t j = 0; j < length; ++j) {
        const int64_t row = words.share_row ? 0 : static_cast<int64_t>(c);
        auto at = std::find(rows.begin(), rows.end(), row);
        while (at != rows.end() && nth(offsets, at - rows.begin()) != j) at = std::find(at + 1, rows.end(), row);
        read.push_back(at - rows.begin());
        if (at == rows.end()) {
          rows.push_back(row);
          offsets.push_back(j);
        }
        token_classes.push_back(static_cast<int64_t>(c));
        token_places.push_back(j);
        tokens.push_back(nth(words.tokens[c], j));
      }
    }
  }
  int64_t num_predictions() const { return static_cast<int64_t>(rows.size()); }

  std::vector<int64_t> rows, offsets;                              // of each prediction of a sample
  std::vector<int64_t> read, token_classes, token_places, tokens;  // of each token of a word
  bool single;                                                     // one prediction, of which each class reads one token
};

// A plan's numbers as tensors on a unit's device, made once: nothing is copied there within a visit.
struct WordPlaces {
  WordPlaces(const WordPlan& plan, at::Device device) {
    const auto on_device = [&](const std::vector<int64_t>& values) { return at::tensor(values, at::kLong).to(device); };
    rows = on_device(plan.rows), offsets = on_device(plan.offsets);
    read = on_device(plan.read), tokens = on_device(plan.tokens);
    for (int64_t place = 0;; ++place) {
      std::vector<int64_t> of_place, classes;
      for (size_t t = 0; t < plan.token_places.size(); ++t) {
        if (plan.token_places[t] != place) continue;
        of_place.push_back(static_cast<int64_t>(t));
        classes.push_back(plan.token_classes[t]);
      }
      if (of_place.empty()) break;
      turns.push_back({on_device(of_place), on_device(classes)});
    }
  }
  at::Tensor rows, offsets, read, tokens;
  // The first tokens of all words, the second ones and so on, and the classes of these words.
  struct Turn {
    at::Tensor tokens, classes;
  };
  std::vector<Turn> turns;
};

class PromptHead final : public Unit {
 public:
  PromptHead(std::unique_ptr<Unit> head, const LabelWords& words, at::Device device)
      : head_(std::move(head)), words_(words), plan_(words), places_(plan_, device) {}
  TensorList forward(const TensorList& inputs, const ForwardContext& context) override {
    const at::Tensor selected = predictions(inputs, *context.batch, 1);
    return {scores(head_->forward({selected}, context).at(0))};
  }
  TensorList forward_branches(const TensorList& inputs, const ForwardContext& context, const BranchPerturbation& p) override {
    const at::Tensor selected = predictions(inputs, *context.batch, p.own_batches ? 1 : p.branches);
    return {scores(head_->forward_branches({selected}, context, p).at(0))};
  }

 private:
  // [samples * predictions, 1, width] of hidden states [repeats * rows, T, width].
  at::Tensor predictions(const TensorList& inputs, const Batch& batch, int64_t repeats) const {
    const at::Tensor& x = only_input(inputs, "head");
    const int64_t length = x.size(1), rows_each = words_.rows_per_sample();
    if (!batch.word_positions.defined() || batch.word_positions.size(0) * rows_each * repeats != x.size(0)) {
      fail_protocol("[head] {} rows of prompts for {} samples of {} rows and {} branches", x.size(0),
                    batch.word_positions.defined() ? batch.word_positions.size(0) : 0, rows_each, repeats);
    }
    const at::Tensor positions = batch.word_positions.unsqueeze(1) + places_.offsets;
    if (positions.is_cpu() && (positions.lt(0).logical_or_(positions.ge(length))).any().item<bool>())
      fail_protocol("[head] a word outside prompts of {} tokens", length);
    const int64_t samples = positions.size(0) * repeats;
    at::Tensor places = at::arange(samples, positions.options()).mul_(rows_each).unsqueeze(1) + places_.rows;
    places.mul_(length).view({repeats, -1}).add_(positions.view({1, -1}));
    return at::index_select(x.reshape({-1, x.size(2)}), 0, places.view(-1)).unsqueeze(1);
  }
  // [samples, classes] fp32 of logits [samples * predictions, 1, vocabulary].
  at::Tensor scores(const at::Tensor& logits) const {
    const int64_t vocabulary = logits.size(2), samples = logits.size(0) / plan_.num_predictions();
    const at::Tensor rows = logits.reshape({samples, -1});
    const at::Tensor columns = places_.read * vocabulary + places_.tokens;
    if (plan_.single) return at::index_select(rows, 1, columns).to(at::kFloat);
    const at::Tensor likely = at::log_softmax(logits.reshape({-1, vocabulary}), 1, at::kFloat).view({samples, -1});
    // Words may share a column: unlike index_select()'s, this gradient has one order of sums on a GPU.
    const at::Tensor word_values = at::index(likely, {std::nullopt, columns});
    at::Tensor sums = at::zeros({samples, words_.num_classes()}, word_values.options().requires_grad(false));
    // A class gets one of its tokens at a time: the order of its sum is theirs.
    for (const WordPlaces::Turn& turn : places_.turns)
      sums = sums.index_add(1, turn.classes, places_.turns.size() == 1 ? word_values : at::index_select(word_values, 1, turn.tokens));
    return sums;
  }

  std::unique_ptr<Unit> head_;
  LabelWords words_;
  WordPlan plan_;
  WordPlaces places_;
};

class PromptClassifier final : public ModelDefinition {
 public:
  PromptClassifier(std::unique_ptr<ModelDefinition> model, LabelWords words)
      : model_(std::move(model)), words_(std::move(words)), plan_(words_) {
    if (model_->num_classes() > 0) fail_protocol("prompts for a model that classifies without");
    if (words_.tokens.size() < 2) fail_protocol("prompts with {} label words", words_.tokens.size());
    units_ = model_->units();
  }
  std::unique_ptr<Unit> make_unit(int index, std::vector<at::Tensor> parameters) const override {
    auto unit = model_->make_unit(index, parameters);
    if (!is_head(index)) return unit;
    return std::make_unique<PromptHead>(std::move(unit), words_, parameters.at(0).device());
  }
  ActivationCost activation_cost(int index, const ActivationShape& shape) const override {
    const int64_t batch = shape.batch, sequence = shape.sequence, rows = batch * words_.rows_per_sample();
    ActivationShape of_rows = shape, of_predictions = shape;
    of_rows.batch = rows;
    if (!is_head(index)) return model_->activation_cost(index, of_rows);
    const int64_t predictions = batch * plan_.num_predictions();
    of_predictions.batch = predictions, of_predictions.sequence = 1;
    const ActivationCost head = model_->activation_cost(index, of_predictions);
    // The hidden states that come in are the block's before it; of those that predict words, copies go through the head.
    const int64_t hidden = model_->activation_cost(index - 1, of_rows).output_bytes;
    const int64_t selected = hidden / (rows * sequence) * predictions, places = 8 * predictions;
    const int64_t likely = plan_.single ? 0 : 4 * predictions * model_->vocabulary_size();
    const int64_t picked = 4 * batch * static_cast<int64_t>(plan_.tokens.size());
    ActivationCost cost = head;
    cost.output_bytes = 4 * batch * words_.num_classes();
    cost.saved_bytes = head.saved_bytes + selected + places + likely;
    const auto forward = [&](int64_t head_saved, int64_t head_transient) {
      MemoryTimeline m;
      m.take(selected + places).take(head_saved + head.output_bytes).pass(head_transient);
      m.take(likely).take(picked + places).take(plan_.single ? 0 : cost.output_bytes);
      return m.peak() - cost.output_bytes;
    };
    cost.forward_transient_bytes = forward(head.saved_bytes, head.forward_transient_bytes) - cost.saved_bytes;
    cost.inference_transient_bytes = forward(0, head.inference_transient_bytes);
    cost.inference_product_bytes = selected + places + head.output_bytes + head.inference_product_bytes - cost.output_bytes;
    const auto backward = [&](int64_t head_bytes) {
      MemoryTimeline m;
      m.take(cost.output_bytes).take(picked).take(likely).give(picked);
      m.take(head.output_bytes).give(2 * likely).pass(head_bytes - head.output_bytes);
      m.give(head.output_bytes + head.saved_bytes).take(hidden);
      return m.peak();
    };
    // What is picked, weighed and spread; the head's own.
    cost.forward_work = {head.forward_work.written_bytes + selected + likely + 2 * picked, head.forward_work.operations + 6};
    cost.backward_work = {head.backward_work.written_bytes + likely + picked + hidden, head.backward_work.operations + 6};
    cost.backward_transient_bytes = backward(head.backward_transient_bytes);
    cost.accumulating_backward_transient_bytes = backward(head.accumulating_backward_transient_bytes);
    return cost;
  }
  Batch example_batch(int64_t batch, int64_t sequence) const override {
    Batch out = model_->example_batch(batch * words_.rows_per_sample(), sequence);
    const at::TensorOptions options = out.tokens.options();
    out.mask = at::ones(out.tokens.sizes(), options.dtype(at::kBool));
    out.pads_ends = true;
    out.labels = at::zeros({batch, 1}, options);
    out.word_positions = at::zeros({batch}, options);
    out.valid_tokens = out.global_valid_tokens = batch;
    return out;
  }
  std::string hugging_face_config() const override { return model_->hugging_face_config(); }
  std::vector<std::string> reduced_scope() const override { return model_->reduced_scope(); }
  std::vector<std::string> embeddings_and_head() const override { return model_->embeddings_and_head(); }
  int64_t vocabulary_size() const override { return model_->vocabulary_size(); }
  int64_t max_sequence_length() const override { return model_->max_sequence_length(); }
  int64_t num_classes() const override { return words_.num_classes(); }
  std::optional<int32_t> padding_token() const override { return model_->padding_token(); }

 private:
  bool is_head(int index) const { return index == static_cast<int>(units_.size()) - 1; }

  std::unique_ptr<ModelDefinition> model_;
  LabelWords words_;
  WordPlan plan_;
};

}  // namespace

std::unique_ptr<ModelDefinition> make_prompt_classifier(std::unique_ptr<ModelDefinition> model, LabelWords words) {
  return std::make_unique<PromptClassifier>(std::move(model), std::move(words));
}

}  // namespace zerostep
