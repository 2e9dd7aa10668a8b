#include "runtime/data/prompt_batch.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <utility>

#include "base/error.h"

namespace zerostep {
namespace {

// A prompt with a word in place: its tokens, or a mask token for each. A causal model reads all but the last.
std::vector<int32_t> with_word(const PromptTemplate& prompt, const EncodedText& text, const std::vector<int32_t>& word) {
  const auto at = text.tokens.begin() + text.label_position;
  std::vector<int32_t> row(text.tokens.begin(), at);
  if (prompt.masked()) {
    row.insert(row.end(), word.size(), prompt.mask());
    row.insert(row.end(), at, text.tokens.end());
  } else {
    row.insert(row.end(), word.begin(), word.end() - 1);
  }
  return row;
}

}  // namespace

PaddedRows padded_rows(const std::vector<std::vector<int32_t>>& rows, int32_t padding) {
  const auto count = std::ssize(rows);
  size_t longest = 0, shortest = SIZE_MAX;
  for (const auto& row : rows) {
    longest = std::max(longest, row.size());
    shortest = std::min(shortest, row.size());
  }
  PaddedRows out;
  const auto length = static_cast<int64_t>(longest);
  out.tokens = at::full({count, length}, padding, at::kLong);
  auto* tokens = out.tokens.mutable_data_ptr<int64_t>();
  for (int64_t i = 0; i < count; ++i)
    std::copy(rows[static_cast<size_t>(i)].begin(), rows[static_cast<size_t>(i)].end(), tokens + i * length);
  if (shortest == longest) return out;
  out.mask = at::zeros({count, length}, at::kBool);
  auto* mask = out.mask.mutable_data_ptr<bool>();
  for (int64_t i = 0; i < count; ++i) std::fill_n(mask + i * length, rows[static_cast<size_t>(i)].size(), true);
  return out;
}

PromptBatch make_prompt_batch(const PromptTemplate& prompt, const std::vector<LabelledPrompt>& samples, int32_t padding) {
  const auto& words = prompt.words();
  PromptBatch out;
  out.num_samples = std::ssize(samples);
  out.num_words = std::ssize(words);
  std::vector<std::vector<int32_t>> rows;
  for (const LabelledPrompt& sample : samples) {
    out.classes.push_back(sample.label);
    if (sample.label < 0 || sample.label >= out.num_words)
      fail_protocol("a prompt of label {}, with words for {} labels", sample.label, out.num_words);
    for (size_t word = 0; word < (prompt.shares_row() ? 1 : words.size()); ++word) {
      rows.push_back(with_word(prompt, sample.text, words[word]));
      out.batch.sample_ids.push_back(sample.id);
    }
  }
  PaddedRows padded = padded_rows(rows, padding);
  const int64_t length = padded.tokens.size(1), rows_each = prompt.shares_row() ? 1 : out.num_words;
  out.batch.tokens = std::move(padded.tokens);
  out.batch.mask = std::move(padded.mask);
  out.batch.labels = at::full({std::ssize(rows), length}, -100, at::kLong);
  auto* labels = out.batch.labels.mutable_data_ptr<int64_t>();
  for (int64_t i = 0; i < out.num_samples; ++i) {
    const LabelledPrompt& sample = samples[static_cast<size_t>(i)];
    // A causal model predicts a token one position before it.
    const int64_t first = sample.text.label_position - (prompt.masked() ? 0 : 1);
    for (int64_t word = 0; word < out.num_words; ++word) {
      const int64_t row = i * rows_each + (prompt.shares_row() ? 0 : word);
      PromptBatch::Candidate candidate;
      for (int32_t token : words[static_cast<size_t>(word)]) {
        candidate.positions.push_back(row * length + first + std::ssize(candidate.positions));
        candidate.tokens.push_back(token);
        if (word != sample.label) continue;
        labels[candidate.positions.back()] = token;
        ++out.batch.valid_tokens;
      }
      out.candidates.push_back(std::move(candidate));
    }
  }
  out.batch.global_valid_tokens = out.batch.valid_tokens;
  return out;
}

at::Tensor prompt_scores(const PromptBatch& prompts, const at::Tensor& logits) {
  if (logits.dim() != 3 || logits.size(0) != prompts.batch.tokens.size(0) || logits.size(1) != prompts.batch.tokens.size(1)) {
    fail_protocol("logits of {} dimensions for prompts of {} rows of {} tokens; [rows, tokens, vocabulary] are expected", logits.dim(),
                  prompts.batch.tokens.size(0), prompts.batch.tokens.size(1));
  }
  std::vector<int64_t> positions, tokens, of;
  for (size_t i = 0; i < prompts.candidates.size(); ++i) {
    const auto& candidate = prompts.candidates[i];
    positions.insert(positions.end(), candidate.positions.begin(), candidate.positions.end());
    tokens.insert(tokens.end(), candidate.tokens.begin(), candidate.tokens.end());
    of.insert(of.end(), candidate.positions.size(), static_cast<int64_t>(i));
  }
  const auto index = [&](const std::vector<int64_t>& values) { return at::tensor(values, at::kLong).to(logits.device()); };
  const at::Tensor chosen = logits.reshape({-1, logits.size(2)}).index_select(0, index(positions));
  const at::Tensor scores = chosen.to(at::kFloat).log_softmax(1).gather(1, index(tokens).unsqueeze(1)).squeeze(1);
  const at::Tensor sums = at::zeros({std::ssize(prompts.candidates)}, scores.options()).index_add(0, index(of), scores);
  return sums.view({prompts.num_samples, prompts.num_words});
}

}  // namespace zerostep
