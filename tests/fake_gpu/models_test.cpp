#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <c10/core/AutogradState.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <gtest/gtest.h>

#include <functional>
#include <ostream>
#include <string>
#include <vector>

#include "fake_gpu/fake_gpu.h"
#include "fake_gpu/kernels_on_processor.h"
#include "models/branches.h"
#include "models/device_kernels.h"
#include "models/dropout.h"
#include "models/kernel_rows.h"
#include "models/model_options.h"
#include "models/objective.h"
#include "models/parameter_gradient.h"
#include "models/prompt_classifier.h"
#include "tests/models/support/whole_model.h"

// Units of every family on the fake GPU, whose memory is unreadable for the host throughout, against the same operations and kernels on the
// processor: bit for bit, and without a wait of the host or a pageable copy within a visit.
namespace zerostep {
namespace {

const at::Device kGpu(at::kCUDA, 0);
constexpr int64_t kSamples = 2, kLength = 6, kVocabulary = 61, kWidth = 24, kBranches = 2;

struct Case {
  const char* name;
  std::function<std::unique_ptr<ModelDefinition>()> make;
  at::ScalarType type = at::kFloat;
  bool documents = false;
  int64_t rows_per_sample = 0;  // of prompts
};
void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }

std::unique_ptr<ModelDefinition> gpt2() {
  Gpt2Options o;
  o.n_layer = 1, o.n_embd = kWidth, o.n_head = 2, o.n_positions = 12, o.n_inner = 52, o.vocab_size = kVocabulary;
  o.resid_pdrop = o.embd_pdrop = o.attn_pdrop = 0.2;
  return make_model(o);
}
std::unique_ptr<ModelDefinition> llama(LlamaOptions::Kind kind, bool tied) {
  LlamaOptions o;
  o.kind = kind;
  o.num_hidden_layers = 1, o.hidden_size = kWidth, o.num_attention_heads = 6, o.num_key_value_heads = 2, o.max_position_embeddings = 12;
  o.intermediate_size = 52, o.vocab_size = kVocabulary, o.tie_word_embeddings = tied;
  return make_model(o);
}
std::unique_ptr<ModelDefinition> bert(bool predicts_words, BertOptions::Pooling pooling = BertOptions::Pooling::First) {
  BertOptions o;
  if (predicts_words) o.head = BertOptions::Head::MaskedLanguageModel;
  o.pooling = pooling;
  o.num_hidden_layers = 1, o.hidden_size = kWidth, o.num_attention_heads = 3, o.max_position_embeddings = 12;
  o.intermediate_size = 52, o.vocab_size = kVocabulary, o.num_labels = 3;
  o.hidden_dropout_prob = o.attention_probs_dropout_prob = 0.2;
  return make_model(o);
}
std::unique_ptr<ModelDefinition> encoder(BertOptions::Kind kind, bool predicts_words) {
  BertOptions o;
  o.kind = kind;
  if (predicts_words) o.head = BertOptions::Head::MaskedLanguageModel;
  o.num_hidden_layers = 1, o.hidden_size = kWidth, o.num_attention_heads = 3, o.max_position_embeddings = 12;
  o.intermediate_size = 52, o.vocab_size = kVocabulary, o.num_labels = 3;
  o.hidden_dropout_prob = o.attention_probs_dropout_prob = 0.2;
  return make_model(o);
}
std::unique_ptr<ModelDefinition> scores(bool of_llama) {
  Gpt2Options gpt2;
  gpt2.n_layer = 1, gpt2.n_embd = kWidth, gpt2.n_head = 2, gpt2.n_positions = 12, gpt2.n_inner = 52, gpt2.vocab_size = kVocabulary;
  gpt2.num_labels = 3, gpt2.carried = R"({"pad_token_id": 5})";
  LlamaOptions llama;
  llama.num_hidden_layers = 1, llama.hidden_size = kWidth, llama.num_attention_heads = 6, llama.num_key_value_heads = 2;
  llama.max_position_embeddings = 12, llama.intermediate_size = 52, llama.vocab_size = kVocabulary, llama.num_labels = 3;
  return of_llama ? make_model(llama) : make_model(gpt2);
}
std::unique_ptr<ModelDefinition> prompts(std::unique_ptr<ModelDefinition> model, std::vector<std::vector<int32_t>> words, bool share_row) {
  return make_prompt_classifier(std::move(model), {std::move(words), share_row});
}

at::Tensor on_gpu(const at::Tensor& t) { return t.defined() ? t.to(kGpu) : t; }

Batch batch_of(const Case& c, int64_t samples) {
  const bool prompted = c.rows_per_sample > 0;
  Batch batch = make_batch(samples * (prompted ? c.rows_per_sample : 1), kLength, kVocabulary, 5);
  if (c.documents) {
    batch.mask = batch.tokens > 3;
    batch.positions = at::arange(kLength).flip(0).expand_as(batch.tokens).contiguous();
    if (std::string(c.name).find("bert") == std::string::npos) {
      batch.document_ids = (at::arange(kLength) > 2).to(at::kLong).expand_as(batch.tokens).contiguous();
    } else {
      batch.token_types = (at::arange(kLength) > 2).to(at::kLong).expand_as(batch.tokens).contiguous();
    }
  }
  if (prompted) batch.word_positions = at::arange(1, 1 + samples).remainder(3);
  return batch;
}
Batch on_gpu(Batch batch) {
  for (at::Tensor* t :
       {&batch.tokens, &batch.labels, &batch.mask, &batch.positions, &batch.document_ids, &batch.token_types, &batch.word_positions})
    *t = on_gpu(*t);
  return batch;
}

// Parameters of unit u, own ones then borrowed ones, with fp32 buffers for their gradients, as the engine holds them.
std::vector<at::Tensor> parameters_of(const WholeModel& model, size_t u, at::Device device) {
  std::vector<at::Tensor> out = model.parameters[u];
  for (const BorrowedParameter& b : model.definition->units()[u].borrowed)
    out.push_back(model.parameters[static_cast<size_t>(b.unit)][static_cast<size_t>(b.parameter)]);
  for (at::Tensor& p : out) {
    p = p.detach().clone().to(device).requires_grad_();
    p.mutable_grad() = at::full(p.sizes(), 0.25, at::TensorOptions().dtype(at::kFloat)).to(device);
  }
  mark_gradients(out, true);
  return out;
}

// matrix + b in branch b, written where it is asked for.
class Raised final : public PerturbedMatrix {
 public:
  explicit Raised(at::Tensor matrix) : matrix_(std::move(matrix)) {}
  void write(const Part& part, float* const* out) const override {
    const at::Tensor values = matrix_.narrow(0, part.row, part.rows).narrow(1, part.column, part.columns);
    for (int64_t b = 0; b < kBranches; ++b) at::from_blob(out[b], values.sizes(), matrix_.options()).copy_(values).add_(0.1 * b);
  }

 private:
  at::Tensor matrix_;
};

enum class Kind : uint8_t { Plain, LowRank, Tiled };

BranchPerturbation perturbation_of(const std::vector<at::Tensor>& parameters, Kind kind, bool own_batches) {
  at::manual_seed(9);
  BranchPerturbation out{kBranches, own_batches, {}};
  for (const at::Tensor& given : parameters) {
    const at::Tensor p = given.detach();
    BranchPerturbation::Parameter own;
    if (kind != Kind::Plain && p.dim() == 1) {
      own.values = (p.cpu().to(at::kFloat) + 0.03 * at::randn({kBranches, p.size(0)})).to(p.device());
    } else if (kind == Kind::LowRank) {
      own.left = at::randn({kBranches, 2, p.size(0)}).to(p.device()).transpose(1, 2);
      own.right = (0.03 * at::randn({kBranches, 2, p.size(1)})).to(p.device());
    } else if (kind == Kind::Tiled) {
      own.tiled = std::make_shared<Raised>(p);
    }
    out.parameters.push_back(std::move(own));
  }
  return out;
}

class Models : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override { c10::AutogradState::get_tls_state().set_multithreading_enabled(false); }
  void TearDown() override { c10::AutogradState::get_tls_state().set_multithreading_enabled(true); }

  // Runs `visit` on the GPU, and on the processor as there; compares what they give.
  static void expect_same(const std::string& what, const std::function<TensorList(at::Device)>& prepare_and_visit) {
    const AsOnGpu as_there;
    const TensorList found = prepare_and_visit(kGpu), expected = prepare_and_visit(at::kCPU);
    ASSERT_EQ(found.size(), expected.size());
    for (size_t i = 0; i < found.size(); ++i) {
      ASSERT_EQ(found[i].defined(), expected[i].defined());
      if (!found[i].defined()) continue;
      EXPECT_EQ(found[i].device(), kGpu) << what << " " << i;
      EXPECT_EQ(found[i].scalar_type(), expected[i].scalar_type()) << what << " " << i;
      EXPECT_TRUE(at::equal(found[i].cpu(), expected[i])) << what << " " << i;
      EXPECT_FALSE(expected[i].isnan().any().item<bool>()) << what << " " << i;
    }
  }
  // Within a visit the host neither waits nor copies from memory of its own.
  template <typename F>
  static void visit(const std::string& what, const F& f) {
    const int64_t waits = fake_gpu::num_host_waits(), copies = fake_gpu::num_pageable_copies();
    f();
    EXPECT_EQ(fake_gpu::num_host_waits(), waits) << what;
    EXPECT_EQ(fake_gpu::num_pageable_copies(), copies) << what;
  }
};

TEST_P(Models, ForwardAndBackward) {
  const Case& c = GetParam();
  const WholeModel model = make_random_model(c.make(), 1, c.type);
  const Batch batch = batch_of(c, kSamples), moved = on_gpu(batch);
  for (size_t u = 0; u < model.units.size(); ++u) {
    const at::Tensor hidden = at::randn({batch.tokens.size(0), kLength, kWidth}).to(c.type);
    expect_same(model.definition->units()[u].name, [&](at::Device device) {
      std::vector<at::Tensor> parameters = parameters_of(model, u, device);
      const auto unit = model.definition->make_unit(static_cast<int>(u), parameters);
      const TensorList inputs = u == 0 ? TensorList{} : TensorList{hidden.to(device).clone().requires_grad_()};
      const ForwardContext context{device == kGpu ? &moved : &batch, true, 7, 3};
      TensorList results;
      at::Tensor weights;
      visit("forward", [&] { results = unit->forward(inputs, context); });
      weights = at::cos(0.7 * at::arange(results[0].numel())).view(results[0].sizes()).to(results[0].scalar_type()).to(device);
      visit("backward", [&] { results[0].backward(weights); });
      if (u > 0) results.push_back(inputs[0].grad());
      for (const at::Tensor& p : parameters) results.push_back(p.grad());
      // Without a graph, in evaluation.
      const at::NoGradGuard no_grad;
      visit("evaluation", [&] { results.push_back(unit->forward(inputs, {context.batch, false, 7, 3})[0]); });
      return results;
    });
  }
}

// Without logits, whose parts have 64 columns at least, on a GPU and on the processor as there; and with them, within their rounding.
TEST(ModelsOnFakeGpu, FactoredLossesAndTheirGradients) {
  const AsOnGpu as_there;
  c10::AutogradState::get_tls_state().set_multithreading_enabled(false);
  constexpr int64_t kWords = 300;
  const Batch batch = [] {
    Batch out = make_batch(kSamples, kLength, kWords, 3);
    out.labels.select(0, 1).slice(0, 2, 4).fill_(-100);
    return out;
  }();
  const Batch moved = on_gpu(batch);
  for (const bool is_llama : {false, true})
    for (const at::ScalarType type : {at::kFloat, at::kBFloat16, at::kHalf}) {
      Gpt2Options gpt2_options;
      gpt2_options.n_layer = 1, gpt2_options.n_embd = kWidth, gpt2_options.n_head = 2, gpt2_options.n_positions = 12;
      gpt2_options.vocab_size = kWords;
      LlamaOptions llama_options;
      llama_options.num_hidden_layers = 1, llama_options.hidden_size = kWidth, llama_options.num_attention_heads = 6;
      llama_options.num_key_value_heads = 2, llama_options.vocab_size = kWords;
      const WholeModel model = make_random_model(is_llama ? make_model(llama_options) : make_model(gpt2_options), 1, type);
      const at::Tensor hidden = at::randn({kSamples, kLength, kWidth}).to(type);
      const auto run = [&](at::Device device, int64_t logits_together) {
        std::vector<at::Tensor> parameters = parameters_of(model, 2, device);
        if (logits_together == 0) mark_gradients(parameters, false);
        const auto unit = model.definition->make_unit(2, parameters);
        const auto objective = logits_together > 0 ? make_factored_cross_entropy(logits_together) : make_cross_entropy();
        const Batch& given = device == kGpu ? moved : batch;
        const ForwardContext context{&given, true, 7, 3, objective->takes_factors()};
        const TensorList inputs = {hidden.to(device).clone().requires_grad_()};
        const at::Tensor factor = at::full({}, 0.5).to(device);
        TensorList results;
        const int64_t waits = fake_gpu::num_host_waits(), copies = fake_gpu::num_pageable_copies();
        const auto forward = [&] { return unit->forward(inputs, context); };
        EXPECT_EQ(forward().size(), logits_together > 0 ? 2U : 1U);
        results.push_back(objective->sum(given, forward()));
        results[0].backward(factor);
        const at::NoGradGuard no_grad;
        results.push_back(objective->value(given, forward()));
        if (device == kGpu) {
          EXPECT_EQ(fake_gpu::num_host_waits(), waits);
          EXPECT_EQ(fake_gpu::num_pageable_copies(), copies);
        }
        results.push_back(inputs[0].grad());
        for (const at::Tensor& p : parameters) results.push_back(logits_together == 0 ? p.grad() - 0.25 : p.grad());
        return results;
      };
      const TensorList whole = run(at::kCPU, 0);
      for (const int64_t logits_together : {int64_t{1}, int64_t{128} * kSamples * kLength, kLogitsTogether}) {
        SCOPED_TRACE(std::string(is_llama ? "llama " : "gpt2 ") + toString(type) + " of " + std::to_string(logits_together));
        const TensorList found = run(kGpu, logits_together), expected = run(at::kCPU, logits_together);
        for (size_t i = 0; i < found.size(); ++i) {
          EXPECT_EQ(found[i].scalar_type(), whole[i].scalar_type());
          EXPECT_TRUE(at::equal(found[i].cpu(), expected[i])) << i;
          // Both round logits and their gradients once to the type, and each product once; fp32 sums differ in their order.
          const double bound = type == at::kFloat ? 1e-5 : type == at::kBFloat16 ? 2e-2 : 2e-3;
          EXPECT_LT(relative_distance(found[i].cpu(), whole[i]), bound) << i;
        }
      }
    }
  c10::AutogradState::get_tls_state().set_multithreading_enabled(true);
}

// Bytes that LibTorch's allocator of the device hands out for the last unit and the objective, against what the plan counts. It rounds each
// up to 512.
TEST(ModelsOnFakeGpu, FactoredLossesTakeWhatIsPredicted) {
  c10::AutogradState::get_tls_state().set_multithreading_enabled(false);
  constexpr int64_t kWords = 5003, kWide = 64, kLong = 128;
  using Allocator = c10::cuda::CUDACachingAllocator::CUDAAllocator;
  Allocator& allocator = *c10::cuda::CUDACachingAllocator::get();
  const auto total = static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE);
  const auto live = [&] { return allocator.getDeviceStats(0).allocated_bytes[total].current; };
  const auto peak = [&] { return allocator.getDeviceStats(0).allocated_bytes[total].peak; };
  for (const at::ScalarType type : {at::kFloat, at::kBFloat16})
    for (const int64_t logits_together : {int64_t{1} << 16, int64_t{4096} * kLong * 2, kLogitsTogether}) {  // many parts, two, one
      SCOPED_TRACE(std::string(toString(type)) + " of " + std::to_string(logits_together));
      const DType compute = type == at::kFloat ? DType::F32 : DType::BF16;
      Gpt2Options options;
      options.n_layer = 1, options.n_embd = kWide, options.n_head = 2, options.n_positions = kLong, options.vocab_size = kWords;
      const WholeModel model = make_random_model(make_model(options), 1, type);
      std::vector<at::Tensor> parameters = parameters_of(model, 2, kGpu);
      mark_gradients(parameters, false);
      const auto unit = model.definition->make_unit(2, parameters);
      const auto objective = make_factored_cross_entropy(logits_together);
      const Batch batch = on_gpu(make_batch(1, kLong, kWords, 3));
      const ForwardContext context{&batch, true, 7, 3, true};
      const at::Tensor x = at::randn({1, kLong, kWide}).to(type).to(kGpu).requires_grad_();
      const ActivationCost rows = model.definition->factors_cost({1, kLong, compute, false, Backend::Cuda}).value(),
                           loss = objective->factors_cost(kLong, kWide, kWords, compute);
      const auto expect_near = [&](int64_t found, int64_t expected, const char* what) {
        EXPECT_NEAR(static_cast<double>(found), static_cast<double>(expected), 0.02 * static_cast<double>(expected) + 8192) << what;
      };
      const int64_t start = live();
      allocator.resetPeakStats(0);
      {
        const at::NoGradGuard no_grad;
        objective->value(batch, unit->forward({x}, context));
      }
      expect_near(peak() - start, rows.output_bytes + loss.inference_transient_bytes, "inference");
      at::Tensor sum = objective->sum(batch, unit->forward({x}, context));
      const int64_t held = rows.output_bytes + rows.saved_bytes + loss.saved_bytes;
      expect_near(live() - start, held, "saved");
      allocator.resetPeakStats(0);
      sum.backward();
      expect_near(peak() - start, held + loss.accumulating_backward_transient_bytes, "backward");
    }
  c10::AutogradState::get_tls_state().set_multithreading_enabled(true);
}

TEST_P(Models, Branches) {
  const Case& c = GetParam();
  const at::NoGradGuard no_grad;
  const WholeModel model = make_random_model(c.make(), 1, c.type);
  for (const bool own : {false, true}) {
    const Batch batch = batch_of(c, kSamples * (own ? kBranches : 1)), moved = on_gpu(batch);
    const int64_t rows = batch.tokens.size(0) * (own ? 1 : kBranches);
    for (const Kind kind : {Kind::Plain, Kind::LowRank, Kind::Tiled}) {
      if (kind == Kind::Tiled && (own || c.type != at::kFloat)) continue;
      for (size_t u = 0; u < model.units.size(); ++u) {
        const at::Tensor hidden = at::randn({rows, kLength, kWidth}).to(c.type);
        expect_same(model.definition->units()[u].name, [&](at::Device device) {
          const std::vector<at::Tensor> parameters = parameters_of(model, u, device);
          const auto unit = model.definition->make_unit(static_cast<int>(u), parameters);
          const BranchPerturbation perturbation = perturbation_of(parameters, kind, own);
          const TensorList inputs = u == 0 ? TensorList{} : TensorList{hidden.to(device)};
          const ForwardContext context{device == kGpu ? &moved : &batch, false, 7, 3};
          TensorList results;
          visit("branches", [&] { results = unit->forward_branches(inputs, context, perturbation); });
          return results;
        });
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    Families, Models,
    testing::Values(Case{"gpt2", gpt2}, Case{"gpt2_documents_bf16", gpt2, at::kBFloat16, true},
                    Case{"llama", [] { return llama(LlamaOptions::Kind::Llama, true); }},
                    Case{"llama_documents_bf16", [] { return llama(LlamaOptions::Kind::Llama, false); }, at::kBFloat16, true},
                    Case{"qwen2_fp16", [] { return llama(LlamaOptions::Kind::Qwen2, false); }, at::kHalf},
                    Case{"bert_padded", [] { return bert(false); }, at::kFloat, true},
                    Case{"bert_mean_bf16", [] { return bert(false, BertOptions::Pooling::Mean); }, at::kBFloat16, true},
                    Case{"bert_words", [] { return bert(true); }},
                    Case{"roberta", [] { return encoder(BertOptions::Kind::Roberta, false); }},
                    Case{"roberta_padded_bf16", [] { return encoder(BertOptions::Kind::Roberta, false); }, at::kBFloat16, true},
                    Case{"roberta_words", [] { return encoder(BertOptions::Kind::Roberta, true); }},
                    Case{"distilbert_padded", [] { return encoder(BertOptions::Kind::DistilBert, false); }, at::kFloat, true},
                    Case{"distilbert_words", [] { return encoder(BertOptions::Kind::DistilBert, true); }},
                    Case{"gpt2_score", [] { return scores(false); }},
                    Case{"llama_score_documents_bf16", [] { return scores(true); }, at::kBFloat16, true},
                    Case{"prompts_of_gpt2",
                         [] {
                           return prompts(gpt2(), {{7, 2}, {9, 4, 5}}, false);
                         },
                         at::kFloat, false, 2},
                    Case{"prompts_of_gpt2_fp16",
                         [] {
                           return prompts(gpt2(), {{7, 2}, {9, 4}}, true);
                         },
                         at::kHalf, false, 1},
                    Case{"prompts_of_bert_words",
                         [] {
                           return prompts(bert(true), {{7}, {9}, {3}}, true);
                         },
                         at::kFloat, false, 1}),
    [](const auto& info) { return info.param.name; });

TEST(ModelsOnFakeGpu, ObjectivesAndTheirGradients) {
  const AsOnGpu as_there;
  c10::AutogradState::get_tls_state().set_multithreading_enabled(false);
  Batch batch = make_batch(kSamples, 700, kVocabulary, 3);
  batch.labels.select(0, 1).slice(0, 2, 50).fill_(-100);
  const Batch moved = on_gpu(batch);
  for (const at::ScalarType type : {at::kFloat, at::kBFloat16, at::kHalf}) {
    const at::Tensor logits = at::randn({kSamples, 700, kVocabulary}).to(type);
    for (const bool counts : {false, true}) {
      const auto objective = counts ? make_accuracy() : make_cross_entropy();
      const auto run = [&](const Batch& b, const at::Tensor& given) {
        const at::Tensor x = given.clone().requires_grad_(!counts), one = at::full({}, 0.5).to(given.device());
        const int64_t waits = fake_gpu::num_host_waits(), copies = fake_gpu::num_pageable_copies();
        TensorList results{objective->sum(b, {x}), objective->value(b, {x.detach()})};
        if (!counts) results[0].backward(one);
        EXPECT_EQ(fake_gpu::num_host_waits(), waits);
        EXPECT_EQ(fake_gpu::num_pageable_copies(), copies);
        if (!counts) results.push_back(x.grad());
        return results;
      };
      const TensorList found = run(moved, logits.to(kGpu)), expected = run(batch, logits);
      for (size_t i = 0; i < expected.size(); ++i) EXPECT_TRUE(at::equal(found[i].cpu(), expected[i])) << objective->name() << " " << i;
    }
  }
  c10::AutogradState::get_tls_state().set_multithreading_enabled(true);
}

}  // namespace
}  // namespace zerostep
