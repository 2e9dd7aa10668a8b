#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace zerostep {

using TensorList = std::vector<at::Tensor>;

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
  // The last unit may hand on the factors of the logits instead of them: {rows [B, T, width], matrix [vocabulary, width]}.
  bool takes_factors = false;
};

}  // namespace zerostep
