#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/custom_function.h>

#include <functional>
#include <thread>

#include "base/error.h"
#include "models/model_options.h"
#include "models/parameter_gradient.h"
#include "tests/models/support/whole_model.h"

// What the engine relies on, for every architecture that has no longer test of its own.
namespace zerostep {
namespace {

struct Case {
  const char* name;
  ModelOptions options;
};

LlamaOptions llama(bool tied, bool biases, LlamaOptions::Kind kind = LlamaOptions::Kind::Llama) {
  LlamaOptions o;
  o.kind = kind;
  o.num_hidden_layers = 2, o.hidden_size = 48, o.num_attention_heads = 6, o.num_key_value_heads = 2, o.intermediate_size = 80;
  o.max_position_embeddings = 40, o.vocab_size = 101;
  o.tie_word_embeddings = tied, o.attention_bias = biases;
  return o;
}

BertOptions bert(BertOptions::Pooling pooling) {
  BertOptions o;
  o.pooling = pooling;
  o.num_hidden_layers = 2, o.hidden_size = 48, o.num_attention_heads = 4, o.intermediate_size = 80, o.num_labels = 5;
  o.max_position_embeddings = 40, o.vocab_size = 101;
  o.hidden_dropout_prob = o.attention_probs_dropout_prob = 0;
  return o;
}

BertOptions masked_bert() {
  BertOptions o = bert(BertOptions::Pooling::First);
  o.head = BertOptions::Head::MaskedLanguageModel;
  return o;
}

BertOptions encoder(BertOptions::Kind kind, BertOptions::Head head = BertOptions::Head::Classifier) {
  BertOptions o = bert(BertOptions::Pooling::First);
  o.kind = kind, o.head = head;
  if (kind == BertOptions::Kind::DistilBert) o.classifier_dropout = 0;
  return o;
}

LlamaOptions scoring_llama() {
  LlamaOptions o = llama(true, false);
  o.num_labels = 5;
  return o;
}

Gpt2Options scoring_gpt2() {
  Gpt2Options o;
  o.n_layer = 2, o.n_embd = 48, o.n_head = 4, o.n_positions = 40, o.n_inner = 80, o.vocab_size = 101, o.num_labels = 5;
  o.resid_pdrop = o.embd_pdrop = o.attn_pdrop = 0;
  o.carried = R"({"pad_token_id": 3})";
  return o;
}

// Gradients that vanish (a key's bias moves no probability) are noise: they are compared with the largest.
void expect_close(const std::vector<at::Tensor>& found, const std::vector<at::Tensor>& expected, double tolerance) {
  const auto norm = [](const at::Tensor& t) { return t.detach().to(at::kDouble).norm().item<double>(); };
  double largest = 0;
  for (const at::Tensor& t : expected) largest = std::max(largest, norm(t));
  for (size_t i = 0; i < expected.size(); ++i)
    EXPECT_LT(norm(found[i] - expected[i]), tolerance * std::max(norm(expected[i]), 0.05 * largest)) << i;
}
std::vector<at::Tensor> gradients_in(const WholeModel& model) {
  std::vector<at::Tensor> gradients;
  for (const auto& p : model.all_parameters()) gradients.push_back(p.grad().clone());
  return gradients;
}

struct GraphApart {
  at::Tensor loss;
};

// The identity, whose backward has another thread run that of a graph apart, and waits for it.
struct ElsewhereFunction : torch::autograd::Function<ElsewhereFunction> {
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& x, const GraphApart& other) {
    context->saved_data["loss"] = other.loss;
    return x.clone();
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context, const torch::autograd::variable_list& g) {
    std::thread([&] { context->saved_data["loss"].toTensor().backward(g[0]); }).join();
    return {g[0], at::Tensor()};
  }
};

class ModelContract : public testing::TestWithParam<Case> {
 protected:
  WholeModel model(at::ScalarType type = at::kFloat) const {
    WholeModel m = make_random_model(make_model(GetParam().options), 1, type);
    // A ReLU that rounding switches on or off would move gradients by more than rounding does: each is clearly one of both.
    for (size_t p = 0; p < m.parameters.back().size(); ++p)
      if (m.definition->units().back().parameters[p].name == "pre_classifier.bias")
        m.parameters.back()[p].detach().copy_(at::arange(48).remainder(2).mul(8).sub(4));
    return m;
  }
  Batch batch(int64_t samples, int64_t length, uint64_t seed = 2) const {
    return make_batch(samples, length, sizes_of(GetParam().options).vocabulary, seed);
  }
  // A sum of the logits that weighs each differently.
  static at::Tensor loss_of(const at::Tensor& logits) {
    const at::Tensor weights = at::cos(0.7 * at::arange(logits.numel())).view(logits.sizes());
    return (logits.to(at::kFloat) * weights).sum();
  }
  static void run(WholeModel& m, const Batch& b) { loss_of(m.forward({&b, true})[0]).backward(); }
  static std::vector<at::Tensor> gradients_of(WholeModel& m, const Batch& b) {
    for (auto& p : m.all_parameters()) p.mutable_grad().reset();
    run(m, b);
    return gradients_in(m);
  }
};

TEST_P(ModelContract, InferenceGivesTheBitsOfTheRecordedForward) {
  WholeModel m = model();
  const Batch b = batch(2, 17);
  const at::Tensor recorded = m.forward({&b, true})[0];
  const at::NoGradGuard no_grad;
  EXPECT_TRUE(at::equal(recorded, m.forward({&b, false})[0]));
}

TEST_P(ModelContract, PreassignedGradientsAreOverwrittenWhenFreshAndAddedToOtherwise) {
  WholeModel m = model();
  const Batch b = batch(3, 20);
  const auto expected = gradients_of(m, b);
  auto parameters = m.all_parameters();
  for (auto& p : parameters) p.mutable_grad() = at::full(p.sizes(), NAN);
  for (const bool fresh : {true, false}) {
    mark_gradients(parameters, fresh);
    run(m, b);
    for (size_t i = 0; i < expected.size(); ++i)
      EXPECT_LT(relative_distance(parameters[i].grad(), (fresh ? 1 : 2) * expected[i]), 1e-6) << fresh << " " << i;
  }
}

// Autograd may run a backward in a thread of its own: when another thread asks for it, or for a device.
TEST_P(ModelContract, AnyThreadsBackwardFindsWhatGradientsHold) {
  const Batch b = batch(3, 20);
  const auto gradients = [&](const std::function<void(const at::Tensor& loss)>& backward) {
    WholeModel m = model();
    std::vector<at::Tensor> parameters = m.all_parameters(), out;
    for (auto& p : parameters) p.mutable_grad() = at::full(p.sizes(), NAN);
    for (const bool fresh : {true, false, true}) {
      mark_gradients(parameters, fresh);
      backward(loss_of(m.forward({&b, true})[0]));
      for (at::Tensor& g : gradients_in(m)) out.push_back(std::move(g));
    }
    return out;
  };
  const auto own = gradients([](const at::Tensor& loss) { loss.backward(); });
  const auto other = gradients([](const at::Tensor& loss) { std::thread([&] { loss.backward(); }).join(); });
  const auto within =
      gradients([](const at::Tensor& loss) { ElsewhereFunction::apply(loss.detach().requires_grad_(), GraphApart{loss}).backward(); });
  for (size_t i = 0; i < own.size(); ++i) {
    EXPECT_FALSE(own[i].isnan().any().item<bool>()) << i;
    EXPECT_TRUE(at::equal(other[i], own[i])) << i;
    EXPECT_TRUE(at::equal(within[i], own[i])) << i;
  }
}

TEST_P(ModelContract, FrozenParametersGetNoGradientAndTheOthersTheirs) {
  WholeModel m = model();
  const Batch b = batch(2, 20);
  const auto expected = gradients_of(m, b);
  const auto parameters = m.all_parameters();
  // Every second parameter; then each one alone.
  for (size_t round = 0; round < 1 + parameters.size(); ++round) {
    const auto frozen = [&](size_t i) { return round == 0 ? i % 2 == 0 : i != round - 1; };
    for (size_t i = 0; i < parameters.size(); ++i) {
      at::Tensor p = parameters[i];
      p.mutable_grad().reset();
      p.set_requires_grad(!frozen(i));
    }
    run(m, b);
    for (size_t i = 0; i < parameters.size(); ++i) {
      if (frozen(i)) {
        EXPECT_FALSE(parameters[i].grad().defined()) << i;
      } else {
        EXPECT_TRUE(at::equal(parameters[i].grad(), expected[i])) << round << " " << i;
      }
    }
  }
}

TEST_P(ModelContract, SixteenBitFollowsFp32WithFp32GradientBuffers) {
  WholeModel exact = model();
  const Batch b = batch(4, 32);
  const auto expected = gradients_of(exact, b);
  for (const auto& [type, tolerance] : {std::pair{at::kBFloat16, 0.08}, {at::kHalf, 0.01}}) {
    WholeModel m = model(type);
    auto parameters = m.all_parameters();
    for (auto& p : parameters) p.mutable_grad() = at::full(p.sizes(), NAN);
    mark_gradients(parameters, true);
    const TensorList outputs = m.forward({&b, true});
    EXPECT_EQ(outputs[0].scalar_type(), type);
    loss_of(outputs[0]).backward();
    for (const auto& p : parameters) EXPECT_EQ(p.grad().scalar_type(), at::kFloat);
    expect_close(gradients_in(m), expected, tolerance);
  }
}

// Said to be at the ends alone, padding costs causal models no pairs; tokens that count and gradients stay what the pairs give.
TEST_P(ModelContract, PaddedEndsAreLikeAnyMask) {
  WholeModel m = model();
  Batch b = batch(3, 20);
  const at::Tensor lengths = at::tensor({20, 7, 13}, at::kLong).unsqueeze(1);
  b.mask = at::arange(20).unsqueeze(0) < lengths;
  const auto run = [&](bool said) {
    b.pads_ends = said;
    for (auto& p : m.all_parameters()) p.mutable_grad().reset();
    at::Tensor logits = m.forward({&b, true})[0];
    if (logits.dim() == 3) logits = logits * b.mask.unsqueeze(2);
    loss_of(logits).backward();
    return logits.detach();
  };
  const at::Tensor expected = run(false);
  const std::vector<at::Tensor> gradients = gradients_in(m);
  EXPECT_LT(relative_distance(run(true), expected), 1e-6);
  expect_close(gradients_in(m), gradients, 1e-5);
}

TEST_P(ModelContract, IndicesFollowTheOrderOfParametersAndUnitsCheckWhatTheyGet) {
  WholeModel m = model();
  int64_t first = 0;
  for (const UnitInfo& unit : m.definition->units()) {
    for (const ParameterInfo& p : unit.parameters) {
      EXPECT_EQ(p.first, first) << p.name;
      first += p.num_elements();
    }
  }
  EXPECT_EQ(first, m.definition->num_elements());
  // A norm behind the tables needs its gain.
  EXPECT_EQ(m.definition->units()[0].backward_needs_parameters, std::holds_alternative<BertOptions>(GetParam().options));
  for (size_t u = 0; u < m.units.size(); ++u) {
    EXPECT_THROW(m.definition->make_unit(static_cast<int>(u), {}), ProtocolError);
    const Batch b = batch(1, 3);
    EXPECT_THROW(m.units[u]->forward(u == 0 ? TensorList{at::zeros({1, 3, 48})} : TensorList{}, {&b, false}), ProtocolError);
  }
  const Batch longer = batch(1, m.definition->max_sequence_length() + 1);
  EXPECT_THROW(m.units[0]->forward({}, {&longer, false}), InputError);
}

TEST_P(ModelContract, ScopesNameParametersThatThereAre) {
  const auto definition = make_model(GetParam().options);
  const auto names_one = [&](std::string pattern) {
    if (pattern.ends_with('*')) pattern.pop_back();
    for (const UnitInfo& unit : definition->units())
      for (const ParameterInfo& p : unit.parameters)
        if (p.name.starts_with(pattern)) return true;
    return false;
  };
  for (const auto& patterns : {definition->reduced_scope(), definition->embeddings_and_head()})
    for (const std::string& pattern : patterns) EXPECT_TRUE(names_one(pattern)) << pattern;
}

INSTANTIATE_TEST_SUITE_P(
    Models, ModelContract,
    testing::Values(Case{"llama", llama(false, false)}, Case{"llama_tied_biases", llama(true, true)},
                    Case{"qwen2", llama(false, false, LlamaOptions::Kind::Qwen2)}, Case{"bert", bert(BertOptions::Pooling::First)},
                    Case{"bert_mean", bert(BertOptions::Pooling::Mean)}, Case{"bert_words", masked_bert()},
                    Case{"roberta", encoder(BertOptions::Kind::Roberta)},
                    Case{"roberta_words", encoder(BertOptions::Kind::Roberta, BertOptions::Head::MaskedLanguageModel)},
                    Case{"distilbert", encoder(BertOptions::Kind::DistilBert)},
                    Case{"distilbert_words", encoder(BertOptions::Kind::DistilBert, BertOptions::Head::MaskedLanguageModel)},
                    Case{"gpt2_score", scoring_gpt2()}, Case{"llama_score", scoring_llama()}),
    [](const auto& info) { return info.param.name; });

TEST(Bert, PaddingChangesNothing) {
  for (const auto pooling : {BertOptions::Pooling::First, BertOptions::Pooling::Mean}) {
    WholeModel model = make_random_model(make_model(bert(pooling)), 1);
    Batch plain = make_batch(2, 11, 101, 2), padded = make_batch(2, 19, 101, 3);
    padded.tokens.slice(1, 0, 11) = plain.tokens;
    padded.mask = (at::arange(19) < 11).expand({2, 19}).contiguous();
    plain.token_types = (at::arange(11) > 4).to(at::kLong).expand({2, 11}).contiguous();
    padded.token_types = (at::arange(19) > 4).to(at::kLong).expand({2, 19}).contiguous();
    const at::NoGradGuard no_grad;
    EXPECT_LT(relative_distance(model.forward({&padded, false})[0], model.forward({&plain, false})[0]), 1e-6);
    // Types count.
    plain.token_types.reset();
    EXPECT_GT(relative_distance(model.forward({&padded, false})[0], model.forward({&plain, false})[0]), 1e-3);
  }
}

// Dropout masks depend on the sample alone: the gradients of two halves of a batch are those of the whole.
TEST(Bert, DropoutDoesNotDependOnHowTheBatchIsSplit) {
  for (BertOptions options : {bert(BertOptions::Pooling::First), bert(BertOptions::Pooling::Mean), encoder(BertOptions::Kind::Roberta),
                              encoder(BertOptions::Kind::DistilBert)}) {
    options.hidden_dropout_prob = 0.3, options.attention_probs_dropout_prob = 0.2, options.classifier_dropout = 0.4;
    WholeModel model = make_random_model(make_model(options), 1);
    Batch whole = make_batch(4, 12, 101, 2);
    whole.mask = at::ones({4, 12}, at::kBool);
    whole.mask[1].slice(0, 8) = false;
    const at::Tensor weights = at::randn({4, 5});
    const auto run = [&](const Batch& b, int64_t first) {
      const at::Tensor logits = model.forward({&b, true, 7, 3})[0];
      (logits * weights.narrow(0, first, logits.size(0))).sum().backward();
      return logits.detach();
    };
    const at::Tensor together = run(whole, 0);
    const std::vector<at::Tensor> expected = gradients_in(model);
    for (auto& p : model.all_parameters()) p.mutable_grad().reset();
    for (int64_t first = 0; first < 4; first += 2) {
      Batch half = whole;
      half.tokens = whole.tokens.narrow(0, first, 2);
      half.mask = whole.mask.narrow(0, first, 2);
      half.sample_ids = {first, first + 1};
      EXPECT_LT(relative_distance(run(half, first), together.narrow(0, first, 2)), 1e-6);
    }
    expect_close(gradients_in(model), expected, 1e-5);
    const at::NoGradGuard no_grad;
    EXPECT_GT(relative_distance(model.forward({&whole, false, 7, 3})[0], together), 0.01);
  }
}

// Gradients under dropout against differences of the loss, whose masks are the same every time.
TEST(Bert, DropoutGradientsAreThoseOfTheMaskedForward) {
  for (const auto kind : {BertOptions::Kind::Bert, BertOptions::Kind::Roberta, BertOptions::Kind::DistilBert}) {
    BertOptions options = encoder(kind);
    options.hidden_dropout_prob = 0.3, options.attention_probs_dropout_prob = 0.2, options.classifier_dropout = 0.3;
    WholeModel model = make_random_model(make_model(options), 1);
    const Batch batch = make_batch(2, 10, 101, 2);
    const at::Tensor weights = at::randn({2, 5});
    const auto loss = [&] { return (model.forward({&batch, true, 7, 3})[0] * weights).to(at::kDouble).sum(); };
    loss().backward();
    auto parameters = model.all_parameters();
    for (size_t i = 0; i < parameters.size(); ++i) {
      at::Tensor& p = parameters[i];
      const at::Tensor direction = p.grad() / p.grad().norm().clamp_min(1e-12);
      const at::NoGradGuard no_grad;
      const double step = 2e-3, slope = p.grad().norm().item<double>();
      p.add_(direction, step);
      const double up = loss().item<double>();
      p.add_(direction, -2 * step);
      const double down = loss().item<double>();
      p.add_(direction, step);
      EXPECT_NEAR((up - down) / (2 * step), slope, 0.02 * slope + 5e-3) << i;
    }
  }
}

// DistilBERT drops nothing between attention and its norm, as transformers: with the other dropouts off, hidden_dropout_prob changes what
// the embedding, the MLP and RoBERTa's two places before the classifier give, and this alone.
TEST(Bert, KindsDropWhereTransformersDoes) {
  const Batch batch = make_batch(2, 10, 101, 2);
  for (const auto kind : {BertOptions::Kind::Bert, BertOptions::Kind::DistilBert}) {
    BertOptions options = encoder(kind);
    options.hidden_dropout_prob = 0.999999, options.classifier_dropout = 0;
    WholeModel model = make_random_model(make_model(options), 1);
    // The MLP's part is dropped: what is left is the norm of the middle, which differs from that of the input by attention alone.
    const at::NoGradGuard no_grad;
    const at::Tensor x = at::randn({2, 10, 48});
    const at::Tensor found = model.units[1]->forward({x}, {&batch, true, 7, 3})[0];
    const std::string prefix = kind == BertOptions::Kind::Bert ? "bert.encoder.layer.0." : "distilbert.transformer.layer.0.";
    const auto norm = [&](const at::Tensor& t, const std::string& name) {
      return at::layer_norm(t, {48}, model.parameter(prefix + name + ".weight"), model.parameter(prefix + name + ".bias"), 1e-12);
    };
    const bool bert = kind == BertOptions::Kind::Bert;
    const at::Tensor without_attention =
        norm(norm(x, bert ? "attention.output.LayerNorm" : "sa_layer_norm"), bert ? "output.LayerNorm" : "output_layer_norm");
    const double distance = relative_distance(found, without_attention);
    EXPECT_TRUE(bert ? distance < 1e-5 : distance > 1e-2) << distance;
  }
}

// A text may hold RoBERTa's token of padding: it stands at its position and is not counted.
TEST(Bert, RobertaCountsPositionsWithoutItsPadding) {
  BertOptions options = encoder(BertOptions::Kind::Roberta);
  options.padding_token = 4;
  EXPECT_EQ(make_model(options)->max_sequence_length(), 35);
  WholeModel model = make_random_model(make_model(options), 1);
  Batch counted, given;
  counted.tokens = at::tensor({9, 4, 8, 7, 4, 4}, at::kLong).unsqueeze(0);
  // Positions that a batch gives count from 0.
  given.tokens = counted.tokens;
  given.positions = at::tensor({0, -1, 1, 2, -1, -1}, at::kLong).unsqueeze(0);
  const at::NoGradGuard no_grad;
  EXPECT_TRUE(at::equal(model.units[0]->forward({}, {&counted})[0], model.units[0]->forward({}, {&given})[0]));
}

TEST(Bert, SinusoidalPositionsAreThoseOfTransformers) {
  BertOptions options = encoder(BertOptions::Kind::DistilBert);
  options.sinusoidal_positions = true;
  const auto model = make_model(options);
  const ParameterInfo& table = model->unit(0).parameters.at(1);
  std::vector<float> values(static_cast<size_t>(table.num_elements()));
  initial_values(table, 1, 0, table.num_elements(), values.data());
  // create_sinusoidal_embeddings(40, 48): sin(p / 10000^(2 (c // 2) / 48)), cosines in odd columns.
  for (const auto& [position, column, expected] : {std::tuple{0, 0, 0.0},
                                                   {0, 1, 1.0},
                                                   {3, 0, std::sin(3.0)},
                                                   {3, 1, std::cos(3.0)},
                                                   {7, 10, std::sin(7 / std::pow(10000.0, 10.0 / 48))},
                                                   {39, 47, std::cos(39 / std::pow(10000.0, 46.0 / 48))}})
    EXPECT_NEAR(values.at(static_cast<size_t>(position * 48 + column)), expected, 1e-6) << position << " " << column;
}

TEST(Bert, ContradictionsAreRefused) {
  const auto refused = [](auto change) {
    BertOptions o = bert(BertOptions::Pooling::First);
    change(o);
    EXPECT_THROW(make_model(o), InputError);
  };
  refused([](BertOptions& o) { o.num_attention_heads = 5; });
  refused([](BertOptions& o) { o.num_labels = 0; });
  refused([](BertOptions& o) { o.type_vocab_size = 0; });
  refused([](BertOptions& o) { o.hidden_dropout_prob = 1.5; });
}

TEST(Llama, DocumentsDoNotSeeEachOtherAndPositionsCount) {
  WholeModel model = make_random_model(make_model(llama(false, false)), 1);
  Batch joined = make_batch(1, 14, 101, 2), second = make_batch(1, 9, 101, 3);
  second.tokens = joined.tokens.slice(1, 5);
  joined.document_ids = (at::arange(14) >= 5).to(at::kLong).unsqueeze(0);
  const at::NoGradGuard no_grad;
  const at::Tensor together = model.forward({&joined, false})[0].slice(1, 5);
  // Turning all queries and keys of a document by the same further angle changes no score between them.
  EXPECT_LT(relative_distance(together, model.forward({&second, false})[0]), 1e-5);
  joined.positions = at::arange(14).unsqueeze(0) * 2;
  EXPECT_GT(relative_distance(model.forward({&joined, false})[0].slice(1, 5), together), 1e-3);
}

TEST(Llama, ContradictionsAreRefused) {
  const auto refused = [](auto change) {
    LlamaOptions o = llama(false, false);
    change(o);
    EXPECT_THROW(make_model(o), InputError);
  };
  refused([](LlamaOptions& o) { o.num_attention_heads = 5; });
  refused([](LlamaOptions& o) { o.num_key_value_heads = 4; });
  refused([](LlamaOptions& o) { o.head_dim = 7; });
  refused([](LlamaOptions& o) { o.num_hidden_layers = 0; });
  refused([](LlamaOptions& o) { o.rope.rope_theta = 0; });
  refused([](LlamaOptions& o) { o.rope.factor = std::nan(""); });
  refused([](LlamaOptions& o) { o.rope.type = RotaryOptions::Type::Llama3, o.rope.high_freq_factor = 1; });
}

}  // namespace
}  // namespace zerostep
