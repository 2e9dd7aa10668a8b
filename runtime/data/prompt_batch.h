#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "models/unit.h"
#include "runtime/data/prompt_template.h"

namespace zerostep {

// B prompts of C label words as rows of tokens.
//
// `batch` has a row for each sample, or one for each sample and word (sample-major) where words cannot share one: tokens [R, T], mask [R,
// T] (undefined where nothing is padded), and labels [R, T], which are the tokens of the right word at the positions whose logits predict
// it and -100 elsewhere: cross-entropy on them teaches the word. valid_tokens count them. sample_ids are those of the rows.
struct PromptBatch {
  Batch batch;
  int64_t num_samples = 0, num_words = 0;
  std::vector<int64_t> classes;  // B
  // Of each sample and word: its tokens and the positions of their predictions, in the flattened [R * T].
  struct Candidate {
    std::vector<int64_t> positions, tokens;
  };
  std::vector<Candidate> candidates;  // B * C, sample-major
};

// One prompt: the tokens of a sample, its class and its id.
struct LabelledPrompt {
  EncodedText text;
  int64_t label, id;
};
PromptBatch make_prompt_batch(const PromptTemplate& prompt, const std::vector<LabelledPrompt>& samples, int32_t padding);

// [B, C] fp32: the sum of the log-probabilities of each word's tokens. `logits`: [R, T, vocabulary]; differentiable.
at::Tensor prompt_scores(const PromptBatch& prompts, const at::Tensor& logits);

// Rows of tokens as one tensor [rows, longest], filled up with `padding` at the end; and the mask of what is no padding, undefined where
// there is none.
struct PaddedRows {
  at::Tensor tokens, mask;
};
PaddedRows padded_rows(const std::vector<std::vector<int32_t>>& rows, int32_t padding);

}  // namespace zerostep
