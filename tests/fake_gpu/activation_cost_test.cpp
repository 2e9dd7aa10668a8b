#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <c10/core/AutogradState.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "models/attention.h"
#include "models/branches.h"
#include "models/model_options.h"
#include "models/objective.h"
#include "models/parameter_gradient.h"
#include "tests/models/support/whole_model.h"

// What units take of LibTorch's allocator for CUDA against ActivationCost. On the fake GPU attention takes its plain form, and kernels
// nothing for themselves.
namespace zerostep {
namespace {

constexpr int64_t kWidth = 64, kHeads = 4, kVocabulary = 257;

struct Case {
  const char* name;
  int64_t samples, length;
  DType type;
  double dropout = 0;
  int64_t key_value_heads = 0;  // not 0: a Llama; -1: a BERT, -2: one that pools by the mean, -3: one that predicts words
  int64_t classes = 0;          // of a score head on a GPT-2 or Llama
  BertOptions::Kind kind = BertOptions::Kind::Bert;
};
void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }

ModelOptions options_of(const Case& c) {
  if (c.key_value_heads > 0) {
    LlamaOptions o;
    o.num_hidden_layers = 1, o.hidden_size = kWidth, o.num_attention_heads = kHeads, o.num_key_value_heads = c.key_value_heads;
    o.max_position_embeddings = c.length, o.intermediate_size = 176, o.vocab_size = kVocabulary, o.num_labels = c.classes;
    return o;
  }
  if (c.key_value_heads < 0) {
    BertOptions o;
    o.kind = c.kind;
    o.pooling = c.key_value_heads == -2 ? BertOptions::Pooling::Mean : BertOptions::Pooling::First;
    if (c.key_value_heads == -3) o.head = BertOptions::Head::MaskedLanguageModel;
    o.num_hidden_layers = 1, o.hidden_size = kWidth, o.num_attention_heads = kHeads, o.intermediate_size = 4 * kWidth;
    o.max_position_embeddings = c.length + o.first_position(), o.vocab_size = kVocabulary, o.num_labels = 3;
    o.hidden_dropout_prob = o.attention_probs_dropout_prob = c.dropout;
    return o;
  }
  Gpt2Options o;
  o.n_layer = 1, o.n_embd = kWidth, o.n_head = kHeads, o.n_positions = c.length, o.vocab_size = kVocabulary;
  o.resid_pdrop = o.embd_pdrop = o.attn_pdrop = c.dropout, o.tie_word_embeddings = false;
  o.num_labels = c.classes, o.carried = R"({"pad_token_id": 1})";
  return o;
}

auto bytes() { return c10::cuda::CUDACachingAllocator::getDeviceStats(0).allocated_bytes[0]; }

// The allocator rounds each tensor to 512 bytes, of which a unit's visit has some thirty of any size and many of a few numbers; an arena of
// its own is as large as a tensor and at most 2 MiB, of which it leaves up to 1 MiB empty behind a tensor of more than 1 MiB.
void expect_near(int64_t measured, int64_t predicted, const std::string& what) {
  EXPECT_NEAR(static_cast<double>(measured), static_cast<double>(predicted), 0.03 * static_cast<double>(predicted) + 24 * 1024) << what;
}

class CudaActivationCost : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    c10::AutogradState::get_tls_state().set_multithreading_enabled(false);
    c10::cuda::CUDACachingAllocator::emptyCache();
  }
  void TearDown() override { c10::AutogradState::get_tls_state().set_multithreading_enabled(true); }
  // Highest bytes beyond those that are there, while f runs.
  template <typename F>
  static int64_t peak_of(const F& f) {
    const int64_t before = bytes().current;
    c10::cuda::CUDACachingAllocator::resetPeakStats(0);
    f();
    return bytes().peak - before;
  }
};

TEST_P(CudaActivationCost, IsWhatTheAllocatorHolds) {
  const Case& c = GetParam();
  const at::Device gpu(at::kCUDA, 0);
  const at::ScalarType type = c.type == DType::F32 ? at::kFloat : at::kBFloat16;
  const WholeModel model = make_random_model(make_model(options_of(c)), 1, type);
  Batch batch = make_batch(c.samples, c.length, kVocabulary, 2);
  batch.mask = (at::arange(c.length).unsqueeze(0) < c.length - at::arange(c.samples).unsqueeze(1)).contiguous().to(gpu);
  batch.pads_ends = true;
  batch.tokens = batch.tokens.to(gpu), batch.labels = batch.labels.to(gpu);
  const ForwardContext context{&batch, true, 7, 3};
  for (size_t u = 0; u < model.units.size(); ++u) {
    const ActivationCost cost =
        model.definition->activation_cost(static_cast<int>(u), {c.samples, c.length, c.type, c.dropout > 0, Backend::Cuda});
    std::vector<at::Tensor> parameters = model.parameters[u];
    for (const BorrowedParameter& b : model.definition->units()[u].borrowed)
      parameters.push_back(model.parameters[static_cast<size_t>(b.unit)][static_cast<size_t>(b.parameter)]);
    for (at::Tensor& p : parameters) {
      p = p.detach().to(gpu).requires_grad_();
      p.mutable_grad() = at::zeros(p.sizes(), at::TensorOptions().dtype(at::kFloat)).to(gpu);
    }
    const auto unit = model.definition->make_unit(static_cast<int>(u), parameters);
    for (const bool fresh : {true, false}) {
      mark_gradients(parameters, fresh);
      at::Tensor x, output;
      if (u > 0) x = at::randn({c.samples, c.length, kWidth}).to(type).to(gpu).requires_grad_();
      const auto forward = [&] { output = unit->forward(u > 0 ? TensorList{x} : TensorList{}, context)[0]; };
      const std::string name = model.definition->units()[u].name;
      const int64_t before = bytes().current;
      const int64_t inference = peak_of([&] {
        const at::NoGradGuard no_grad;
        forward();
      });
      expect_near(bytes().current - before, cost.output_bytes, name + " output");
      expect_near(inference, cost.output_bytes + cost.inference_transient_bytes, name + " inference");
      output.reset();
      const int64_t kept = cost.output_bytes + cost.saved_bytes;
      expect_near(peak_of(forward), kept + cost.forward_transient_bytes, name + " forward");
      expect_near(bytes().current - before, kept, name + " saved");
      const int64_t backward = peak_of([&] {
        at::Tensor gradient = at::ones_like(output);
        output.backward(gradient);
      });
      expect_near(backward + kept, kept + (fresh ? cost.backward_transient_bytes : cost.accumulating_backward_transient_bytes),
                  name + (fresh ? " backward" : " accumulating backward"));
    }
  }
}

// Low-rank directions: units run once for all branches take what they take of as many samples more, with what the branches' factors make
// besides. An embedding, whose rows are looked up for each branch, is no moment that counts.
TEST_P(CudaActivationCost, IsThatOfBranchesTogether) {
  constexpr int64_t kBranches = 4, kRank = 2;
  const Case& c = GetParam();
  const at::NoGradGuard no_grad;
  const at::Device gpu(at::kCUDA, 0);
  const at::ScalarType type = c.type == DType::F32 ? at::kFloat : at::kBFloat16;
  const WholeModel model = make_random_model(make_model(options_of(c)), 1, type);
  Batch batch = make_batch(c.samples, c.length, kVocabulary, 2);
  batch.mask = at::ones({c.samples, c.length}, at::kBool).to(gpu);
  batch.pads_ends = true;
  batch.tokens = batch.tokens.to(gpu), batch.labels = batch.labels.to(gpu);
  const ForwardContext context{&batch, false, 7, 3};
  const auto random = [&](std::vector<int64_t> sizes) { return at::randn(sizes).to(gpu); };
  for (size_t u = 1; u < model.units.size(); ++u) {
    const ActivationCost cost =
        model.definition->activation_cost(static_cast<int>(u), {kBranches * c.samples, c.length, c.type, false, Backend::Cuda});
    std::vector<at::Tensor> parameters = model.parameters[u];
    for (const BorrowedParameter& b : model.definition->units()[u].borrowed)
      parameters.push_back(model.parameters[static_cast<size_t>(b.unit)][static_cast<size_t>(b.parameter)]);
    BranchPerturbation perturbation{kBranches, false, {}};
    for (at::Tensor& p : parameters) {
      p = p.detach().to(gpu);
      auto& own = perturbation.parameters.emplace_back();
      if (p.dim() == 1) own.values = random({kBranches, p.size(0)});
      if (p.dim() == 2) own.left = random({kBranches, kRank, p.size(0)}).transpose(1, 2), own.right = random({kBranches, kRank, p.size(1)});
    }
    const auto unit = model.definition->make_unit(static_cast<int>(u), parameters);
    const at::Tensor x = at::randn({kBranches * c.samples, c.length, kWidth}).to(type).to(gpu);
    at::Tensor output;
    const int64_t measured = peak_of([&] { output = unit->forward_branches({x}, context, perturbation)[0]; });
    const int64_t rows = output.dim() == 3 ? output.size(0) * output.size(1) : output.size(0), coefficients = 4 * rows * kRank;
    expect_near(measured, cost.output_bytes + std::max(cost.inference_transient_bytes, cost.inference_product_bytes + coefficients),
                model.definition->units()[u].name);
  }
}

INSTANTIATE_TEST_SUITE_P(
    Shapes, CudaActivationCost,
    testing::Values(Case{"gpt2_64", 8, 64, DType::F32}, Case{"gpt2_64_bf16", 8, 64, DType::BF16}, Case{"gpt2_1024", 2, 1024, DType::F32},
                    Case{"gpt2_1024_bf16", 2, 1024, DType::BF16}, Case{"gpt2_alone", 1, 256, DType::F32},
                    Case{"gpt2_alone_bf16", 1, 256, DType::BF16}, Case{"gpt2_dropout", 8, 64, DType::F32, 0.1},
                    Case{"gpt2_dropout_bf16", 8, 64, DType::BF16, 0.1}, Case{"llama_64", 8, 64, DType::F32, 0, 4},
                    Case{"llama_64_bf16", 8, 64, DType::BF16, 0, 4}, Case{"llama_groups", 8, 64, DType::F32, 0, 2},
                    Case{"llama_groups_1024_bf16", 2, 1024, DType::BF16, 0, 2}, Case{"llama_1024", 2, 1024, DType::F32, 0, 4},
                    Case{"bert_64", 8, 64, DType::F32, 0, -1}, Case{"bert_1024_bf16", 2, 1024, DType::BF16, 0, -2},
                    Case{"bert_dropout_bf16", 8, 64, DType::BF16, 0.1, -1}, Case{"bert_words", 8, 64, DType::F32, 0, -3},
                    Case{"bert_words_bf16", 8, 64, DType::BF16, 0, -3},
                    Case{"roberta_64", 8, 64, DType::F32, 0, -1, 0, BertOptions::Kind::Roberta},
                    Case{"roberta_dropout", 32, 64, DType::F32, 0.1, -1, 0, BertOptions::Kind::Roberta},
                    Case{"distilbert_64", 8, 64, DType::F32, 0, -1, 0, BertOptions::Kind::DistilBert},
                    Case{"score_64", 8, 64, DType::F32, 0, 0, 3}, Case{"score_llama_bf16", 8, 64, DType::BF16, 0, 4, 3}),
    [](const auto& info) { return info.param.name; });

// A GPU's own attention keeps a logsumexp, as the CPU's does.
TEST(CudaAttentionCost, FollowsTheAttentionThatLibTorchChooses) {
  at::Context& context = at::globalContext();
  const auto model = make_model(options_of({"", 2, 1024, DType::F32}));
  const auto saved = [&](Backend backend) { return model->activation_cost(1, {2, 1024, DType::F32, false, backend}).saved_bytes; };
  EXPECT_FALSE(has_fused_attention(DType::BF16, 64, false));
  EXPECT_GT(saved(Backend::Cuda), 2 * saved(Backend::Cpu));
  context.setSDPUseFlash(true);
  EXPECT_TRUE(has_fused_attention(DType::BF16, 60, false));
  EXPECT_FALSE(has_fused_attention(DType::BF16, 64, true));
  EXPECT_FALSE(has_fused_attention(DType::BF16, 264, false));
  EXPECT_FALSE(has_fused_attention(DType::F32, 64, false));
  context.setSDPUseFlash(false);
  context.setSDPUseMemEfficient(true);
  EXPECT_TRUE(has_fused_attention(DType::F32, 60, true));
  EXPECT_TRUE(has_fused_attention(DType::BF16, 64, true));
  EXPECT_FALSE(has_fused_attention(DType::BF16, 60, true));
  EXPECT_EQ(saved(Backend::Cuda), saved(Backend::Cpu));
  context.setSDPUseMemEfficient(false);
}

}  // namespace
}  // namespace zerostep
