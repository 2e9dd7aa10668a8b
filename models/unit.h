#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/dtype.h"

namespace zerostep {

using TensorList = std::vector<at::Tensor>;
struct BranchPerturbation;

// One micro-batch of one rank. B samples of T tokens.
struct Batch {
  at::Tensor tokens;        // [B, T] int64
  at::Tensor labels;        // [B, T] int64, already shifted by one; classes of samples: [B, 1]; -100 is ignored
  at::Tensor mask;          // [B, T] bool, true = attend; undefined when all are
  bool pads_ends = false;   // the mask hides ends of samples and nothing else: no token that counts sees them under causal attention
  at::Tensor positions;     // [B, T] int64; undefined: 0..T-1
  at::Tensor document_ids;  // [B, T] int64; undefined: one document a sample
  at::Tensor token_types;   // [B, T] int64, which of a pair of texts (BERT); undefined: all 0
  // Of prompts (models/prompt_classifier.h), whose samples may have several rows: [B] int64, the token of each of a sample's rows whose
  // logits predict the first token of the label word. tokens and mask are [rows, T] there.
  at::Tensor word_positions;
  std::vector<int64_t> sample_ids;  // B: index of each sample in the stream of global batches (keys dropout)
  int64_t valid_tokens = 0;         // labels that are not ignored, here
  int64_t global_valid_tokens = 0;  // ... in the whole global batch (all ranks and micro-batches)
};

// What a forward needs beside its inputs. Dropout masks are functions of (seed, step, global sample, unit, site, element) alone.
struct ForwardContext {
  const Batch* batch = nullptr;
  bool training = false;  // dropout on
  uint64_t seed = 0;
  int64_t step = 0;
};

// Where a parameter's first values come from.
struct ParameterInit {
  enum class Kind : uint8_t { Zeros, Ones, Normal } kind = Kind::Zeros;
  float std = 0;  // Normal(0, std)
};

// A parameter as data; nothing is allocated. Names are those of `named_parameters()` of the Hugging Face model.
struct ParameterInfo {
  std::string name;            // "transformer.h.0.attn.c_attn.weight"
  std::vector<int64_t> shape;  // Hugging Face's
  int64_t first = 0;           // global element index of element 0: registration order, no padding, a tied weight once
  ParameterInit init;
  bool trainable = true;
  bool out_by_in = false;  // a matrix [out, in], which products use transposed, instead of [in, out]
  // Under FreshGradients (models/linear.h) the unit's backward writes every element of a pre-assigned gradient, once per backward: the
  // buffer needs no zeroing. Otherwise the backward adds to what is there.
  bool overwritten_gradient = false;
  int64_t num_elements() const {
    int64_t n = 1;
    for (int64_t d : shape) n *= d;
    return n;
  }
};

// A use of another unit's parameter (a tied head): the parameter lives in `unit`, and this unit needs it gathered too.
struct BorrowedParameter {
  int unit;
  int parameter;  // index among that unit's parameters
  // As in ParameterInfo, for this use. The last use of a parameter comes first in the backward: where both uses share one gradient buffer,
  // the borrower overwrites it and the owner adds, so it needs no zeroing at all; with a buffer for each use the owner's needs zeroing.
  bool overwritten_gradient = false;
  // What Hugging Face calls it in this use: a file may hold it under this name, alone or beside the owner's.
  const char* name = "";
};

// Bytes of the tensors that LibTorch's allocator holds for one unit and one micro-batch whose mask, if any, hides ends alone, without
// document ids, for the plan: the same on every machine, checked against measurement by the tests. Parameters and pre-assigned gradients
// are the caller's and not counted, nor what LibTorch's kernels take beside their results, which depends on the machine
// (runtime/memory/workspace.h).
struct ActivationCost {
  int64_t output_bytes = 0;               // the boundary activation that the unit hands on
  int64_t saved_bytes = 0;                // held from forward to backward besides input and output
  int64_t forward_transient_bytes = 0;    // highest extra during forward (beyond saved and output), graph recorded
  int64_t inference_transient_bytes = 0;  // highest extra during forward without a graph (beyond output)
  int64_t inference_product_bytes = 0;    // the same, of moments at which a product is made, with what it takes itself
  // Highest extra during backward beyond input, saved and output (incoming and outgoing gradients counted), with fresh gradient buffers.
  int64_t backward_transient_bytes = 0;
  // The same when gradients add to earlier micro-batches': products pass through a temporary.
  int64_t accumulating_backward_transient_bytes = 0;
  double forward_flops = 0;  // multiply-adds count two
};

struct UnitInfo {
  std::string name;  // "embedding", "h.0", ..., "head"
  std::vector<ParameterInfo> parameters;
  std::vector<BorrowedParameter> borrowed;
  // True when the backward does not read the unit's own parameters (an embedding): it needs their gradients only.
  bool backward_needs_parameters = true;
  int64_t num_elements() const {
    int64_t n = 0;
    for (const auto& p : parameters) n += p.num_elements();
    return n;
  }
};

// The running form of a unit: plain single-device code over parameters that somebody else owns.
// Linear-layer matrices may be 16-bit while vectors (norm gains, biases) are fp32: forward casts where it must.
class Unit {
 public:
  virtual ~Unit() = default;
  // First unit: inputs = {} (it reads context.batch). Others: {hidden [B, T, width]}. Last unit: {logits [B, T, vocabulary]}, or of a
  // classifier {logits [B, classes]}.
  virtual TensorList forward(const TensorList& inputs, const ForwardContext& context) = 0;
  // The same for the branches of a perturbation (models/branches.h) as one batch, without a graph or dropout. First unit: inputs = {}.
  // Others: {hidden [branches * B, T, width]}, branch-major. Last unit: {logits [branches * B, T, vocabulary]}, or {[branches * B,
  // classes]}.
  virtual TensorList forward_branches(const TensorList& inputs, const ForwardContext& context, const BranchPerturbation& perturbation) = 0;
};

// A model as data, and the factory of its units.
class ModelDefinition {
 public:
  virtual ~ModelDefinition() = default;
  const std::vector<UnitInfo>& units() const { return units_; }
  int64_t num_elements() const;
  // `parameters`: one tensor per entry of units()[index].parameters, then one per borrowed parameter, shapes as declared. The unit keeps
  // them.
  virtual std::unique_ptr<Unit> make_unit(int index, std::vector<at::Tensor> parameters) const = 0;
  virtual ActivationCost activation_cost(int index, int64_t batch, int64_t sequence, DType compute_type, bool training) const = 0;
  // A micro-batch of these sizes with made-up content, such as the units and the objective of the model take, for measurements: every
  // sample of a classifier is padded by one token.
  virtual Batch example_batch(int64_t batch, int64_t sequence) const;
  // Hugging Face's config.json of this model, as text.
  virtual std::string hugging_face_config() const = 0;
  // Patterns of the parameters near the output that forward-only training often restricts itself to: the last block's MLP, its norm and the
  // head (a tied one with its weight).
  virtual std::vector<std::string> reduced_scope() const = 0;
  // Names of the matrices that look tokens and positions up or turn states into logits; a tied head counts once.
  virtual std::vector<std::string> embeddings_and_head() const = 0;
  virtual int64_t vocabulary_size() const = 0;
  virtual int64_t max_sequence_length() const = 0;
  // Of a classifier; 0: the model predicts tokens.
  virtual int64_t num_classes() const { return 0; }
  // Names of the classes by index, which hugging_face_config() tells; none: they have their numbers alone. Other numbers of names than
  // there are classes leave it as it is.
  virtual std::vector<std::string> class_names() const { return {}; }
  virtual void name_classes(const std::vector<std::string>&) {}
  // It predicts the token after each, so that it can write text.
  virtual bool predicts_next_token() const { return num_classes() == 0; }

 protected:
  std::vector<UnitInfo> units_;
};

// Values [begin, begin + count) of a parameter as the seed alone determines them (Philox, tag "initialisation", keyed by the global element
// index).
void initial_values(const ParameterInfo& parameter, uint64_t seed, int64_t begin, int64_t count, float* out);

}  // namespace zerostep
