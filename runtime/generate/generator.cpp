#include "runtime/generate/generator.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>

#include "base/error.h"
#include "base/nth.h"

namespace zerostep {
namespace {

// In [0, 1), the same for a seed everywhere.
double uniform(std::mt19937_64& generator) { return static_cast<double>(generator() >> 11) * 0x1p-53; }

// Takes the chance from tokens without a text. A NaN stays, for it is an error.
void hide_without_text(std::vector<float>& logits, const std::function<bool(int32_t)>& has_text) {
  bool any = false;
  for (size_t i = 0; i < logits.size(); ++i) {
    const bool shown = has_text(static_cast<int32_t>(i));
    any |= shown;
    if (!shown && !std::isnan(logits[i])) logits[i] = -INFINITY;
  }
  if (!any) fail_input("generate: none of the model's {} tokens has a text in the tokenizer: it is another model's", logits.size());
}

}  // namespace

std::vector<double> next_token_probabilities(const float* logits, int64_t count, double temperature, int64_t top_k) {
  if (std::any_of(logits, logits + count, [](float v) { return std::isnan(v); }))
    fail_run("generate: the model gives NaN for the next token: its weights are damaged or diverged");
  std::vector<double> out(static_cast<size_t>(count), 0.0);
  const float* largest = std::max_element(logits, logits + count);
  if (temperature <= 0) {
    nth(out, largest - logits) = 1;
    return out;
  }
  float least = -INFINITY;
  if (top_k > 0 && top_k < count) {
    std::vector<float> sorted(logits, logits + count);
    std::nth_element(sorted.begin(), sorted.begin() + (top_k - 1), sorted.end(), std::greater<>());
    least = nth(sorted, top_k - 1);
  }
  for (int64_t i = 0; i < count; ++i)
    if (logits[i] >= least && logits[i] > -INFINITY) nth(out, i) = std::exp((static_cast<double>(logits[i]) - *largest) / temperature);
  const double sum = std::accumulate(out.begin(), out.end(), 0.0);
  for (double& p : out) p /= sum;
  return out;
}

std::vector<float> Generator::logits(const std::vector<int32_t>& tokens) const {
  const auto length = std::min<int64_t>(static_cast<int64_t>(tokens.size()), model_.definition().max_sequence_length());
  Batch batch;
  batch.tokens = at::empty({1, length}, at::kLong);
  std::copy(tokens.end() - length, tokens.end(), batch.tokens.mutable_data_ptr<int64_t>());
  TensorList hidden = model_.body(batch);
  // The head sees the last position alone.
  for (at::Tensor& h : hidden) h = h.narrow(1, length - 1, 1).contiguous();
  const at::Tensor last = model_.head(hidden, batch).front().to(at::kFloat).reshape({-1}).contiguous();
  const float* values = last.const_data_ptr<float>();
  return {values, values + last.numel()};
}

void Generator::run(std::vector<int32_t> prompt, int32_t start, const GenerateOptions& options,
                    const std::function<void(int32_t)>& emit) const {
  std::mt19937_64 random(options.seed);
  if (prompt.empty()) prompt.push_back(start);
  for (int64_t n = 0; n < options.tokens; ++n) {
    std::vector<float> values = logits(prompt);
    if (options.has_text) hide_without_text(values, options.has_text);
    const std::vector<double> p =
        next_token_probabilities(values.data(), static_cast<int64_t>(values.size()), options.temperature, options.top_k);
    double left = uniform(random);
    size_t token = 0;
    for (size_t i = 0; i < p.size(); ++i) {
      if (p[i] == 0) continue;
      token = i;  // rounding may leave a rest: the last possible token takes it
      if ((left -= p[i]) < 0) break;
    }
    if (std::find(options.ends.begin(), options.ends.end(), static_cast<int32_t>(token)) != options.ends.end()) return;
    prompt.push_back(static_cast<int32_t>(token));
    emit(static_cast<int32_t>(token));
  }
}

}  // namespace zerostep
