#include "runtime/generate/text_classifier.h"

#include <ATen/Parallel.h>
#include <ATen/ops/softmax.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <exception>
#include <numeric>
#include <utility>

#include "base/error.h"
#include "base/helper_threads.h"
#include "base/nth.h"
#include "runtime/data/padded_rows.h"
#include "runtime/data/prompt_template.h"
#include "runtime/memory/device_batch.h"

namespace zerostep {
namespace {

constexpr size_t kRowsEach = 64;  // that a thread takes at a time

Batch batch_of(const std::vector<std::vector<int32_t>>& rows, int32_t padding) {
  PaddedRows padded = padded_rows(rows, padding);
  Batch batch;
  batch.tokens = std::move(padded.tokens);
  batch.mask = std::move(padded.mask);
  batch.pads_ends = true;
  return batch;
}

}  // namespace

TextClassifier::TextClassifier(const PlainModel& model, const Tokenizer& tokenizer, int64_t batch_size)
    : model_(model),
      tokenizer_(tokenizer),
      batch_size_(batch_size),
      padding_(model.definition().padding_token().value_or(tokenizer.padding())) {
  if (num_classes() < 1 || batch_size < 1) fail_protocol("[predict] {} classes, batches of {}", num_classes(), batch_size);
}

std::vector<std::vector<int32_t>> TextClassifier::encode(const std::vector<TextRow>& rows,
                                                         const std::function<std::string(const TextRow&)>& place) const {
  const ModelDefinition& model = model_.definition();
  std::vector<std::vector<int32_t>> encoded(rows.size());
  std::atomic<size_t> next = 0;
  std::atomic<int64_t> truncated = 0;
  const auto encode_row = [&](size_t i) {
    EncodedText text = encode_plain(tokenizer_, rows[i].text, model.max_sequence_length());
    if (text.tokens.empty())
      fail_input("{}: the text has no token, so it has no class{}", place(rows[i]),
                 rows[i].text.empty()
                     ? ": it is empty, and this tokenizer puts no token around a text. Give it a text, or leave its line out"
                     : "");
    const int32_t largest = *std::max_element(text.tokens.begin(), text.tokens.end());
    if (largest >= model.vocabulary_size())
      fail_input(
          "{}: the text has token {}, and the model has a vocabulary of {}: this is another tokenizer than the model was trained with",
          place(rows[i]), largest, model.vocabulary_size());
    truncated += text.truncated ? 1 : 0;
    encoded[i] = std::move(text.tokens);
  };
  const auto num_threads = static_cast<size_t>(std::max(1, at::get_num_threads()));
  std::vector<std::exception_ptr> errors(num_threads);
  const auto work = [&](size_t thread) {
    try {
      for (size_t begin = next.fetch_add(kRowsEach); begin < rows.size(); begin = next.fetch_add(kRowsEach))
        for (size_t i = begin; i < std::min(begin + kRowsEach, rows.size()); ++i) encode_row(i);
    } catch (...) {
      errors[thread] = std::current_exception();
    }
  };
  {
    const auto helpers = helper_threads(std::min(num_threads, rows.size() / kRowsEach + 1) - 1, work);
    work(0);
  }
  for (const std::exception_ptr& error : errors)
    if (error) std::rethrow_exception(error);
  num_truncated_ += truncated;
  return encoded;
}

std::vector<float> TextClassifier::probabilities(const std::vector<TextRow>& rows, const std::function<std::string(const TextRow&)>& place,
                                                 const std::function<void(double share)>& done) const {
  std::vector<std::vector<int32_t>> encoded = encode(rows, place);
  std::vector<size_t> order(rows.size());
  std::iota(order.begin(), order.end(), size_t{0});
  // The longest first: the memory that all need is taken once.
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return encoded[a].size() > encoded[b].size(); });
  size_t all_tokens = 0, tokens = 0;
  for (const auto& row : encoded) all_tokens += row.size();
  const auto classes = static_cast<size_t>(num_classes()), step = static_cast<size_t>(batch_size_);
  std::vector<float> out(rows.size() * classes);
  for (size_t begin = 0; begin < order.size(); begin += step) {
    const size_t end = std::min(begin + step, order.size());
    std::vector<std::vector<int32_t>> chosen;
    for (size_t i = begin; i < end; ++i) {
      tokens += encoded[order[i]].size();
      chosen.push_back(std::move(encoded[order[i]]));
    }
    Batch batch = batch_of(chosen, padding_);
    bring_to_device({&batch}, model_.device());
    const at::Tensor logits = model_.logits(batch).to(at::kCPU, at::kDouble);
    const at::Tensor likely = at::softmax(logits, 1).to(at::kFloat).contiguous();
    const float* values = likely.const_data_ptr<float>();
    for (size_t i = begin; i < end; ++i, values += classes) {
      if (!std::all_of(values, values + classes, [](float p) { return std::isfinite(p); }))
        fail_run("{}: the model gives no finite numbers for the text: its weights are damaged or diverged", place(rows[order[i]]));
      std::copy_n(values, classes, out.data() + order[i] * classes);
    }
    if (done) done(static_cast<double>(tokens) / static_cast<double>(all_tokens));
  }
  return out;
}

}  // namespace zerostep
