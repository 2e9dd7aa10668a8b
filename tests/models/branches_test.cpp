#include "models/branches.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include "models/branch_kernels.h"
#include "models/model_options.h"
#include "tests/models/support/counting_allocator.h"
#include "tests/models/support/whole_model.h"

// Branches that share their products against units made with each branch's own parameters.
namespace zerostep {
namespace {

constexpr int64_t kBranches = 3, kSamples = 2, kLength = 7;

struct Case {
  const char* name;
  bool tied, own_batches, documents, some_plain;
  at::ScalarType type = at::kFloat;
  int64_t rank = 2;
  const char* family = "gpt2";
};

at::Tensor normal(std::vector<int64_t> shape, double scale, at::Generator& generator) { return at::randn(shape, generator).mul_(scale); }

// Parameters of unit u, own ones then borrowed ones.
std::vector<std::pair<ParameterInfo, at::Tensor>> parameters_of(const WholeModel& model, size_t u) {
  const auto& units = model.definition->units();
  std::vector<std::pair<ParameterInfo, at::Tensor>> out;
  for (size_t p = 0; p < units[u].parameters.size(); ++p) out.emplace_back(units[u].parameters[p], model.parameters[u][p]);
  for (const BorrowedParameter& b : units[u].borrowed) {
    const auto unit = static_cast<size_t>(b.unit), parameter = static_cast<size_t>(b.parameter);
    out.emplace_back(units[unit].parameters[parameter], model.parameters[unit][parameter]);
  }
  return out;
}

BranchPerturbation perturbation_of(const WholeModel& model, size_t u, const Case& c, int64_t branches = kBranches) {
  auto generator = at::make_generator<at::CPUGeneratorImpl>(100 + u);
  BranchPerturbation out;
  out.branches = branches;
  out.own_batches = c.own_batches;
  for (const auto& [info, tensor] : parameters_of(model, u)) {
    BranchPerturbation::Parameter parameter;
    const bool plain = c.some_plain && out.parameters.size() % 3 == 2;
    if (!plain && tensor.dim() == 2) {
      parameter.left = normal({branches, tensor.size(0), c.rank}, 0.03, generator);
      parameter.right = normal({branches, c.rank, tensor.size(1)}, 1, generator);
    } else if (!plain) {
      parameter.values = tensor.to(at::kFloat) + normal({branches, tensor.size(0)}, 0.03, generator);
    }
    out.parameters.push_back(std::move(parameter));
  }
  return out;
}

std::unique_ptr<Unit> materialised(const WholeModel& model, size_t u, const BranchPerturbation& perturbation, int64_t branch) {
  std::vector<at::Tensor> parameters;
  size_t p = 0;
  for (const auto& [info, tensor] : parameters_of(model, u)) {
    const auto& own = perturbation.parameters[p++];
    at::Tensor value = tensor.detach();
    if (own.left.defined()) value = (value.to(at::kFloat) + own.left[branch].mm(own.right[branch])).to(tensor.scalar_type());
    if (own.values.defined()) value = own.values[branch];
    parameters.push_back(value);
  }
  return model.definition->make_unit(static_cast<int>(u), parameters);
}

Batch samples_of(const Batch& batch, int64_t first, int64_t count) {
  Batch out = batch;
  for (at::Tensor* t : {&out.tokens, &out.labels, &out.mask, &out.positions, &out.document_ids, &out.token_types})
    if (t->defined()) *t = t->narrow(0, first, count);
  return out;
}

bool is_encoder(const std::string& family) { return family.find("bert") != std::string::npos; }

ModelOptions options_of(const Case& c) {
  // Widths that divide by no vector length.
  const std::string family = c.family;
  if (is_encoder(family)) {
    BertOptions o;
    if (family.starts_with("roberta")) o.kind = BertOptions::Kind::Roberta;
    if (family.starts_with("distilbert")) o.kind = BertOptions::Kind::DistilBert;
    if (family.ends_with("_words")) o.head = BertOptions::Head::MaskedLanguageModel;
    // Here "tied" pools by the mean.
    o.pooling = c.tied ? BertOptions::Pooling::Mean : BertOptions::Pooling::First;
    o.num_hidden_layers = 1, o.hidden_size = 36, o.num_attention_heads = 3, o.max_position_embeddings = 12;
    o.intermediate_size = 52, o.vocab_size = 61, o.num_labels = 3;
    return o;
  }
  if (family.starts_with("llama")) {
    LlamaOptions o;
    if (family == "llama_score") o.num_labels = 3;
    o.num_hidden_layers = 1, o.hidden_size = 36, o.num_attention_heads = 6, o.num_key_value_heads = 2, o.max_position_embeddings = 12;
    o.intermediate_size = 52, o.vocab_size = 61, o.attention_bias = true;
    o.tie_word_embeddings = c.tied;
    return o;
  }
  Gpt2Options o;
  if (family == "gpt2_score") o.num_labels = 3, o.carried = R"({"pad_token_id": 5})";
  o.n_layer = 1, o.n_embd = 36, o.n_head = 2, o.n_positions = 12, o.n_inner = 52, o.vocab_size = 61;
  o.tie_word_embeddings = c.tied;
  return o;
}

Batch batch_of(const Case& c, const ModelOptions& options) {
  Batch batch = make_batch(kSamples * (c.own_batches ? kBranches : 1), kLength, sizes_of(options).vocabulary, 5);
  if (c.documents && is_encoder(c.family)) {
    batch.mask = batch.tokens > 3;
    if (std::string(c.family).starts_with("bert"))
      batch.token_types = (at::arange(kLength) > 2).to(at::kLong).expand_as(batch.tokens).contiguous();
    batch.positions = at::arange(kLength).flip(0).expand_as(batch.tokens).contiguous();
  } else if (c.documents) {
    batch.document_ids = (at::arange(kLength) > 2).to(at::kLong).expand_as(batch.tokens).contiguous();
    batch.mask = batch.tokens > 3;
    batch.positions = at::arange(kLength).flip(0).expand_as(batch.tokens).contiguous();
  }
  return batch;
}

class Branches : public testing::TestWithParam<Case> {};

TEST_P(Branches, EqualUnitsWithTheirOwnParameters) {
  const Case& c = GetParam();
  const at::NoGradGuard no_grad;
  const ModelOptions options = options_of(c);
  const WholeModel model = make_random_model(make_model(options), 1, c.type);
  const Batch batch = batch_of(c, options);
  const double tolerance = c.type == at::kFloat ? 1e-5 : c.type == at::kHalf ? 3e-3 : 2e-2;
  for (size_t u = 0; u < model.units.size(); ++u) {
    const BranchPerturbation perturbation = perturbation_of(model, u, c);
    const TensorList inputs =
        u == 0 ? TensorList{} : TensorList{at::randn({kBranches * kSamples, kLength, sizes_of(options).width}).to(c.type)};
    const ForwardContext context{&batch, true, 7, 3};
    const at::Tensor all = model.units[u]->forward_branches(inputs, context, perturbation).at(0);
    EXPECT_EQ(all.scalar_type(), c.type);
    for (int64_t b = 0; b < kBranches; ++b) {
      const Batch own = c.own_batches ? samples_of(batch, b * kSamples, kSamples) : batch;
      const TensorList input = u == 0 ? TensorList{} : TensorList{inputs[0].narrow(0, b * kSamples, kSamples)};
      const at::Tensor expected = materialised(model, u, perturbation, b)->forward(input, {&own, false, 7, 3})[0];
      const at::Tensor plain = model.units[u]->forward(input, {&own, false, 7, 3})[0];
      const at::Tensor found = all.narrow(0, b * kSamples, kSamples);
      ASSERT_EQ(found.sizes(), expected.sizes());
      EXPECT_LT(relative_distance(found, expected), tolerance) << model.definition->units()[u].name << " branch " << b;
      EXPECT_GT(relative_distance(plain, expected), 3 * tolerance);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Cases, Branches,
                         testing::Values(Case{"untied", false, false, false, false}, Case{"tied", true, false, false, false},
                                         Case{"own_batches", false, true, false, false}, Case{"documents", true, false, true, false},
                                         Case{"own_documents", true, true, true, false}, Case{"some_plain", true, false, false, true},
                                         Case{"rank_1", true, false, false, false, at::kFloat, 1},
                                         Case{"rank_7", false, true, false, false, at::kFloat, 7},
                                         Case{"bf16", true, false, false, false, at::kBFloat16},
                                         Case{"fp16", false, false, false, false, at::kHalf},
                                         Case{"llama", false, false, false, false, at::kFloat, 2, "llama"},
                                         Case{"llama_tied_documents", true, false, true, false, at::kFloat, 3, "llama"},
                                         Case{"llama_own_documents", false, true, true, false, at::kFloat, 2, "llama"},
                                         Case{"llama_some_plain", true, true, false, true, at::kFloat, 1, "llama"},
                                         Case{"llama_bf16", true, false, false, false, at::kBFloat16, 2, "llama"},
                                         Case{"bert", false, false, false, false, at::kFloat, 2, "bert"},
                                         Case{"bert_padded", false, false, true, false, at::kFloat, 3, "bert"},
                                         Case{"bert_mean_own_padded", true, true, true, false, at::kFloat, 2, "bert"},
                                         Case{"bert_some_plain", true, false, true, true, at::kFloat, 1, "bert"},
                                         Case{"bert_bf16", false, true, false, false, at::kBFloat16, 2, "bert"},
                                         Case{"bert_words", false, false, true, false, at::kFloat, 2, "bert_words"},
                                         Case{"bert_words_own_some_plain", false, true, false, true, at::kFloat, 3, "bert_words"},
                                         Case{"bert_words_bf16", false, false, true, false, at::kBFloat16, 2, "bert_words"},
                                         Case{"roberta", false, false, false, false, at::kFloat, 2, "roberta"},
                                         Case{"roberta_own_some_plain", false, true, false, true, at::kFloat, 2, "roberta"},
                                         Case{"roberta_words", false, false, false, false, at::kFloat, 2, "roberta_words"},
                                         Case{"distilbert_padded", false, false, true, false, at::kFloat, 2, "distilbert"},
                                         Case{"distilbert_own", false, true, false, false, at::kFloat, 2, "distilbert"},
                                         Case{"distilbert_words", false, true, false, true, at::kFloat, 2, "distilbert_words"},
                                         Case{"gpt2_score", true, false, false, false, at::kFloat, 2, "gpt2_score"},
                                         Case{"gpt2_score_own", true, true, false, false, at::kFloat, 2, "gpt2_score"},
                                         Case{"llama_score_documents", false, false, true, false, at::kFloat, 2, "llama_score"}),
                         [](const auto& info) { return info.param.name; });

// weight + left right of each of two branches, written where it is asked for.
class WrittenMatrix final : public PerturbedMatrix {
 public:
  explicit WrittenMatrix(at::Tensor forms) : forms_(std::move(forms)) {}  // [branches, rows, columns]
  void write(const Part& part, float* const* out) const override {
    for (int64_t b = 0; b < forms_.size(0); ++b)
      at::from_blob(out[b], {part.rows, part.columns}).copy_(forms_[b].narrow(0, part.row, part.rows).narrow(1, part.column, part.columns));
  }

 private:
  at::Tensor forms_;
};

class EveryFamily : public testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(All, EveryFamily,
                         testing::Values("gpt2", "llama", "bert", "bert_words", "roberta", "roberta_words", "distilbert",
                                         "distilbert_words", "gpt2_score", "llama_score"));

TEST_P(EveryFamily, TiledMatricesEqualUnitsWithTheirOwnParameters) {
  const at::NoGradGuard no_grad;
  for (Case c : {Case{"", false, false, false, false}, Case{"", true, false, true, false}, Case{"", true, false, false, true}})
    for (const int64_t branches : {1, 2}) {
      c.family = GetParam();
      const ModelOptions options = options_of(c);
      const WholeModel model = make_random_model(make_model(options), 1);
      const Batch batch = batch_of(c, options);
      for (size_t u = 0; u < model.units.size(); ++u) {
        const BranchPerturbation factors = perturbation_of(model, u, c, branches);
        BranchPerturbation tiled = factors;
        const auto parameters = parameters_of(model, u);
        for (size_t p = 0; p < parameters.size(); ++p) {
          BranchPerturbation::Parameter& own = tiled.parameters[p];
          if (!own.left.defined()) continue;
          own.tiled = std::make_shared<WrittenMatrix>(parameters[p].second.detach() + own.left.bmm(own.right));
          own.left = own.right = at::Tensor();
        }
        const TensorList inputs = u == 0 ? TensorList{} : TensorList{at::randn({branches * kSamples, kLength, sizes_of(options).width})};
        const at::Tensor all = model.units[u]->forward_branches(inputs, {&batch, false, 7, 3}, tiled).at(0);
        ASSERT_EQ(all.size(0), branches * kSamples);
        for (int64_t b = 0; b < branches; ++b) {
          const TensorList input = u == 0 ? TensorList{} : TensorList{inputs[0].narrow(0, b * kSamples, kSamples)};
          const at::Tensor expected = materialised(model, u, factors, b)->forward(input, {&batch, false, 7, 3})[0];
          EXPECT_LT(relative_distance(all.narrow(0, b * kSamples, kSamples), expected), 1e-5)
              << model.definition->units()[u].name << " branch " << b << " of " << branches;
        }
      }
    }
}

TEST_P(EveryFamily, NothingPerturbedIsThePlainForward) {
  const Case c{"", true, false, false, false, at::kFloat, 2, GetParam()};
  const at::NoGradGuard no_grad;
  const ModelOptions options = options_of(c);
  const WholeModel model = make_random_model(make_model(options), 1);
  const Batch batch = batch_of(c, options);
  at::Tensor hidden, expected;
  for (size_t u = 0; u < model.units.size(); ++u) {
    BranchPerturbation none{2, false, {}};
    none.parameters.resize(parameters_of(model, u).size());
    hidden = model.units[u]->forward_branches(u == 0 ? TensorList{} : TensorList{hidden}, {&batch, false, 7, 3}, none).at(0);
    expected = model.units[u]->forward(u == 0 ? TensorList{} : TensorList{expected}, {&batch, false, 7, 3}).at(0);
    for (int64_t b = 0; b < 2; ++b) EXPECT_LT(relative_distance(hidden.narrow(0, b * kSamples, kSamples), expected), 1e-6);
  }
}

// Of a unit whose highest moment is in its MLP, and of one where it is in attention.
void expect_memory_of_a_larger_batch(const char* family, int64_t inner) {
  at::set_num_threads(1);
  const at::NoGradGuard no_grad;
  ModelOptions options = options_of({"", false, false, false, false, at::kFloat, 2, family});
  if (auto* gpt2 = std::get_if<Gpt2Options>(&options)) {
    gpt2->n_embd = 128, gpt2->n_head = 4, gpt2->n_positions = 64, gpt2->n_inner = inner, gpt2->vocab_size = 307;
    gpt2->tie_word_embeddings = true;
  } else if (auto* llama = std::get_if<LlamaOptions>(&options)) {
    llama->hidden_size = 128, llama->num_attention_heads = 4, llama->intermediate_size = inner, llama->max_position_embeddings = 64;
    llama->vocab_size = 307, llama->attention_bias = false;
  } else {
    auto& bert = std::get<BertOptions>(options);
    bert.hidden_size = 128, bert.num_attention_heads = 4, bert.intermediate_size = inner, bert.max_position_embeddings = 66;
    bert.vocab_size = 307;
  }
  const Case c{"", false, false, false, false};
  const WholeModel model = make_random_model(make_model(options), 1);
  const int64_t branches = 8, samples = 2, length = 64;
  const Batch batch = make_batch(samples, length, 307, 5);
  for (size_t u = 0; u < model.units.size(); ++u) {
    const BranchPerturbation perturbation = perturbation_of(model, u, c, branches);
    const TensorList inputs = u == 0 ? TensorList{} : TensorList{at::randn({branches * samples, length, 128})};
    const ActivationCost cost = model.definition->activation_cost(static_cast<int>(u), {branches * samples, length});
    for (int round = 0; round < 2; ++round) {  // the first warms up what libraries keep
      AllocationMeter meter;
      const int64_t start = AllocationMeter::live();
      AllocationMeter::restart_peak();
      const at::Tensor output = model.units[u]->forward_branches(inputs, {&batch, false, 7, 3}, perturbation).at(0);
      const auto planned = static_cast<double>(cost.output_bytes + cost.inference_transient_bytes);
      // An embedding: its base rows and the factors of rows that are read. A classifier's head takes next to nothing.
      EXPECT_NEAR(static_cast<double>(AllocationMeter::peak() - start), planned, (u == 0 ? 0.25 : 0.03) * planned + 32768)
          << model.definition->units()[u].name << ", " << inner << " wide within";
    }
  }
}

TEST_P(EveryFamily, TakesTheMemoryOfALargerBatch) {
  for (const int64_t inner : {512, 64}) expect_memory_of_a_larger_batch(GetParam(), inner);
}

TEST(BranchPerturbations, NormsOfLargeMeansKeepTheirPrecision) {
  const at::Tensor rows = at::randn({6, 50}) * 2 + 300, gain = at::randn({3, 50}), offset = at::randn({1, 50});
  const at::Tensor found = branch_norm(rows, gain, offset, 1e-5);
  for (int64_t b = 0; b < 3; ++b) {
    const auto exact = at::layer_norm(rows.narrow(0, 2 * b, 2).to(at::kDouble), {50}, gain[b].to(at::kDouble), offset[0].to(at::kDouble));
    EXPECT_LT(relative_distance(found.narrow(0, 2 * b, 2), exact), 2e-5);
  }
}

TEST(BranchPerturbations, RefuseWhatDoesNotFit) {
  const Case c{"", true, false, false, false};
  const ModelOptions options = options_of(c);
  const WholeModel model = make_random_model(make_model(options), 1);
  const Batch batch = batch_of(c, options);
  const ForwardContext context{&batch, false, 7, 3};
  const BranchPerturbation of_block = perturbation_of(model, 1, c);
  EXPECT_ANY_THROW(model.units[0]->forward_branches({}, context, of_block));
  EXPECT_ANY_THROW(model.units[1]->forward_branches({at::randn({4, kLength, sizes_of(options).width})}, context, of_block));
  EXPECT_ANY_THROW(branch_sum({{}, at::zeros({2, 5}), {}, {}}, 6, 5, 3, at::kFloat));
}

}  // namespace
}  // namespace zerostep
