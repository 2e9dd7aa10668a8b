#include "models/prompt_classifier.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "models/branches.h"
#include "models/model_options.h"
#include "models/objective.h"
#include "models/parameter_gradient.h"
#include "tests/models/support/counting_allocator.h"
#include "tests/models/support/whole_model.h"

// A model of tokens as a classifier by label words against the scores that its own logits of all tokens give.
namespace zerostep {
namespace {

using Words = std::vector<std::vector<int32_t>>;

struct Case {
  const char* name;
  bool masked;
  LabelWords words;
};

constexpr int64_t kSamples = 3, kLength = 9, kVocabulary = 61;

ModelOptions options_of(bool masked) {
  if (masked) {
    BertOptions o;
    o.head = BertOptions::Head::MaskedLanguageModel;
    o.num_hidden_layers = 2, o.hidden_size = 36, o.num_attention_heads = 3, o.max_position_embeddings = 12;
    o.intermediate_size = 52, o.vocab_size = kVocabulary, o.hidden_dropout_prob = o.attention_probs_dropout_prob = 0;
    return o;
  }
  Gpt2Options o;
  o.n_layer = 2, o.n_embd = 36, o.n_head = 2, o.n_positions = 12, o.vocab_size = kVocabulary;
  o.resid_pdrop = o.embd_pdrop = o.attn_pdrop = 0;
  return o;
}

class PromptClassifier : public testing::TestWithParam<Case> {
 protected:
  static WholeModel prompted() {
    return make_random_model(make_prompt_classifier(make_model(options_of(GetParam().masked)), GetParam().words), 1);
  }
  static WholeModel plain() { return make_random_model(make_model(options_of(GetParam().masked)), 1); }
  // Rows of different lengths; the word of sample i begins to be predicted at token 2 + i.
  static Batch batch(int64_t samples = kSamples) {
    const int64_t rows = samples * GetParam().words.rows_per_sample();
    Batch out = make_batch(rows, kLength, kVocabulary, 5);
    out.mask = (at::arange(kLength) < 8).expand({rows, kLength}).contiguous();
    out.word_positions = at::arange(2, 2 + samples).remainder(4);
    out.labels = at::arange(samples).remainder(GetParam().words.num_classes()).unsqueeze(1);
    out.valid_tokens = out.global_valid_tokens = samples;
    return out;
  }
  // The definition, in double: sums of the log-probabilities of the words' tokens.
  static at::Tensor expected_scores(const at::Tensor& logits, const Batch& b) {
    const LabelWords& words = GetParam().words;
    const at::Tensor likely = logits.to(at::kDouble).log_softmax(2);
    TensorList scores;
    for (int64_t i = 0; i < b.labels.size(0); ++i)
      for (int64_t c = 0; c < words.num_classes(); ++c) {
        at::Tensor sum = at::zeros({}, at::kDouble);
        const auto& word = words.tokens[static_cast<size_t>(c)];
        for (size_t j = 0; j < word.size(); ++j)
          sum = sum + likely[words.share_row ? i : i * words.num_classes() + c]
                            [b.word_positions[i].item<int64_t>() + static_cast<int64_t>(j)][word[j]];
        scores.push_back(sum);
      }
    return at::stack(scores).view({-1, words.num_classes()});
  }
};

INSTANTIATE_TEST_SUITE_P(Cases, PromptClassifier,
                         testing::Values(Case{"causal_single", false, {Words{{7}, {9}, {3}}, true}},
                                         Case{"causal_long", false, {Words{{7, 2}, {9, 4, 5}}, false}},
                                         Case{"causal_one_of_them_long", false, {Words{{7}, {9, 4}}, false}},
                                         Case{"masked_single", true, {Words{{7}, {9}}, true}},
                                         Case{"masked_same_length", true, {Words{{7, 2}, {7, 4}, {5, 5}}, true}},
                                         Case{"masked_long", true, {Words{{7, 2}, {9}}, false}}),
                         [](const auto& info) { return info.param.name; });

TEST_P(PromptClassifier, ScoresLossAndGradientsAreThoseOfTheWords) {
  WholeModel model = prompted(), reference = plain();
  EXPECT_EQ(model.definition->num_classes(), GetParam().words.num_classes());
  const Batch b = batch();
  const at::Tensor scores = model.forward({&b, true})[0], expected = expected_scores(reference.forward({&b, true})[0], b);
  ASSERT_EQ(scores.sizes(), expected.sizes());
  EXPECT_EQ(scores.scalar_type(), at::kFloat);
  EXPECT_LT(relative_distance(scores.log_softmax(1), expected.log_softmax(1)), 1e-5);
  const bool single = GetParam().words.share_row && GetParam().words.tokens[0].size() == 1;
  if (!single) {
    EXPECT_LT(relative_distance(scores, expected), 1e-5) << "up to a constant only where words are single tokens";
  }
  const at::Tensor loss = make_cross_entropy(Labelled::Samples)->sum(b, {scores});
  const at::Tensor expected_loss = at::cross_entropy_loss(expected, b.labels.flatten(), {}, at::Reduction::Sum);
  EXPECT_NEAR(loss.item<double>(), expected_loss.item<double>(), 1e-5);
  loss.backward();
  expected_loss.backward();
  const auto found = model.all_parameters(), wanted = reference.all_parameters();
  double largest = 0;
  for (const at::Tensor& p : wanted) largest = std::max(largest, p.grad().norm().item<double>());
  for (size_t i = 0; i < wanted.size(); ++i)
    EXPECT_LT((found[i].grad() - wanted[i].grad()).norm().item<double>(),
              1e-5 * std::max(wanted[i].grad().norm().item<double>(), 0.05 * largest))
        << i;
}

TEST_P(PromptClassifier, BranchesAreForwardsOfTheirOwn) {
  const at::NoGradGuard no_grad;
  const WholeModel model = prompted();
  const size_t head = model.units.size() - 1;
  const int64_t rows = kSamples * GetParam().words.rows_per_sample(), width = 36, branches = 2;
  for (const bool own : {false, true}) {
    const Batch b = batch(own ? branches * kSamples : kSamples);
    BranchPerturbation none{branches, own, {}};
    none.parameters.resize(model.definition->units()[head].parameters.size() + model.definition->units()[head].borrowed.size());
    const at::Tensor x = at::randn({branches * rows, kLength, width});
    const at::Tensor all = model.units[head]->forward_branches({x}, {&b, false, 7, 3}, none).at(0);
    ASSERT_EQ(all.sizes(), (std::vector<int64_t>{branches * kSamples, GetParam().words.num_classes()}));
    for (int64_t branch = 0; branch < branches; ++branch) {
      Batch part = b;
      if (own) part.word_positions = b.word_positions.narrow(0, branch * kSamples, kSamples);
      const at::Tensor expected = model.units[head]->forward({x.narrow(0, branch * rows, rows)}, {&part, false, 7, 3}).at(0);
      EXPECT_LT(relative_distance(all.narrow(0, branch * kSamples, kSamples), expected), 1e-6);
    }
  }
}

TEST_P(PromptClassifier, TakesTheMemoryThatIsPredicted) {
  at::set_num_threads(1);
  WholeModel model = prompted();
  const int64_t samples = 40, rows = samples * GetParam().words.rows_per_sample(), width = 36;
  const int head = static_cast<int>(model.units.size()) - 1;
  for (auto& unit : model.parameters)
    for (auto& p : unit) p.mutable_grad() = at::zeros(p.sizes());
  const Batch b = batch(samples);
  const ActivationCost cost = model.definition->activation_cost(head, {samples, kLength});
  EXPECT_EQ(model.definition->activation_cost(1, {samples, kLength}).output_bytes, 4 * rows * kLength * width);
  // Beside what is predicted: 64-byte rounding and the lists of places.
  const auto expect_close = [](int64_t measured, int64_t predicted, const char* what) {
    EXPECT_NEAR(static_cast<double>(measured), static_cast<double>(predicted), 0.02 * static_cast<double>(predicted) + 6144) << what;
  };
  for (const bool fresh : {true, true, false}) {
    mark_gradients(model.all_parameters(), fresh);
    const at::Tensor x = at::randn({rows, kLength, width}).requires_grad_();
    AllocationMeter meter;
    const int64_t start = AllocationMeter::live();
    AllocationMeter::restart_peak();
    at::Tensor output;
    {
      const at::NoGradGuard no_grad;
      output = model.units.back()->forward({x}, {&b, true})[0];
    }
    expect_close(AllocationMeter::live() - start, cost.output_bytes, "output");
    expect_close(AllocationMeter::peak() - start, cost.output_bytes + cost.inference_transient_bytes, "inference");
    output.reset();
    AllocationMeter::restart_peak();
    output = model.units.back()->forward({x}, {&b, true})[0];
    expect_close(AllocationMeter::live() - start, cost.output_bytes + cost.saved_bytes, "saved");
    expect_close(AllocationMeter::peak() - start, cost.output_bytes + cost.saved_bytes + cost.forward_transient_bytes, "forward");
    const at::Tensor gradient = at::ones_like(output);
    AllocationMeter::restart_peak();
    output.backward(gradient);
    const int64_t transient = fresh ? cost.backward_transient_bytes : cost.accumulating_backward_transient_bytes;
    expect_close(AllocationMeter::peak() - start, cost.output_bytes + cost.saved_bytes + transient, "backward");
  }
}

TEST(PromptClassifierFaults, MisuseIsNamed) {
  BertOptions classifier;
  classifier.num_hidden_layers = 1, classifier.hidden_size = 12, classifier.num_attention_heads = 3, classifier.intermediate_size = 12;
  EXPECT_THROW(make_prompt_classifier(make_model(classifier), {Words{{1}, {2}}, true}), ProtocolError);
  WholeModel model = make_random_model(make_prompt_classifier(make_model(options_of(false)), {Words{{1}, {2}}, true}), 1);
  Batch b = make_batch(2, kLength, kVocabulary, 5);
  EXPECT_THROW(model.forward({&b, false}), ProtocolError) << "no word_positions";
  b.word_positions = at::tensor({int64_t{1}, kLength}, at::kLong);
  EXPECT_THROW(model.forward({&b, false}), ProtocolError) << "outside the row";
}

}  // namespace
}  // namespace zerostep
