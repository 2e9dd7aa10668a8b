#include "models/score_head.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/full.h>
#include <ATen/ops/index_select.h>

#include <utility>

#include "base/error.h"
#include "models/branches.h"
#include "models/cost_parts.h"
#include "models/unit_inputs.h"

namespace zerostep {
namespace {

// [B] int64: where each sample's last token stands.
at::Tensor last_tokens(const Batch& batch, std::optional<int32_t> padding) {
  at::Tensor counted = batch.mask;
  if (padding) {
    const at::Tensor tokens = batch.tokens.ne(*padding);
    counted = counted.defined() ? tokens.logical_and(counted) : tokens;
  }
  if (!counted.defined()) return at::full({batch.tokens.size(0)}, batch.tokens.size(1) - 1, batch.tokens.options());
  return at::arange(batch.tokens.size(1), batch.tokens.options()).mul(counted).amax(1);
}

class ScoreHead final : public Unit {
 public:
  ScoreHead(std::unique_ptr<Unit> head, std::optional<int32_t> padding) : head_(std::move(head)), padding_(padding) {}
  TensorList forward(const TensorList& inputs, const ForwardContext& context) override {
    return {head_->forward({selected(inputs, *context.batch, 1)}, context).at(0).squeeze(1)};
  }
  TensorList forward_branches(const TensorList& inputs, const ForwardContext& context, const BranchPerturbation& p) override {
    const at::Tensor rows = selected(inputs, *context.batch, p.own_batches ? 1 : p.branches);
    return {head_->forward_branches({rows}, context, p).at(0).squeeze(1)};
  }

 private:
  // [repeats * B, 1, width] of hidden states [repeats * B, T, width].
  at::Tensor selected(const TensorList& inputs, const Batch& batch, int64_t repeats) const {
    const at::Tensor& x = only_input(inputs, "head");
    const int64_t samples = batch.tokens.size(0), length = x.size(1);
    if (samples * repeats != x.size(0))
      fail_protocol("[head] {} hidden states for {} samples and {} branches", x.size(0), samples, repeats);
    at::Tensor places = at::arange(samples * repeats, batch.tokens.options()).mul_(length);
    places.view({repeats, samples}).add_(last_tokens(batch, padding_));
    return at::index_select(x.reshape({-1, x.size(2)}), 0, places).unsqueeze(1);
  }

  std::unique_ptr<Unit> head_;
  std::optional<int32_t> padding_;
};

}  // namespace

std::unique_ptr<Unit> make_score_head(std::unique_ptr<Unit> head, std::optional<int32_t> padding) {
  return std::make_unique<ScoreHead>(std::move(head), padding);
}

ActivationCost score_head_cost(const ActivationShape& shape, int64_t width,
                               const std::function<ActivationCost(const ActivationShape&)>& head) {
  ActivationShape of_rows = shape;
  of_rows.sequence = 1;
  const ActivationCost inner = head(of_rows);
  const int64_t tokens = shape.batch * shape.sequence, selected = num_bytes(shape.batch * width, shape.compute_type),
                hidden = num_bytes(tokens * width, shape.compute_type), places = 8 * shape.batch;
  // Flags of the tokens that count, twice, and the numbers of their places.
  const int64_t search = (2 + 8) * tokens;
  ActivationCost cost = inner;
  cost.saved_bytes = inner.saved_bytes + selected + places;
  const auto forward = [&](int64_t saved, int64_t transient) {
    MemoryTimeline m;
    m.take(places).pass(search).take(selected).take(saved + inner.output_bytes).pass(transient);
    return m.peak() - cost.output_bytes;
  };
  cost.forward_transient_bytes = std::max<int64_t>(forward(inner.saved_bytes, inner.forward_transient_bytes) - cost.saved_bytes, 0);
  cost.inference_transient_bytes = forward(0, inner.inference_transient_bytes);
  cost.inference_product_bytes = places + selected + inner.inference_product_bytes;
  const auto backward = [&](int64_t inner_bytes) {
    MemoryTimeline m(inner.output_bytes);
    // The selected rows' gradient has the place of those rows, when it is spread among zeros.
    m.pass(inner_bytes - inner.output_bytes).give(inner.output_bytes + inner.saved_bytes).take(hidden);
    return m.peak();
  };
  cost.backward_transient_bytes = backward(inner.backward_transient_bytes);
  cost.accumulating_backward_transient_bytes = backward(inner.accumulating_backward_transient_bytes);
  cost.forward_work = {inner.forward_work.written_bytes + search + selected + places, inner.forward_work.operations + 6};
  cost.backward_work = {inner.backward_work.written_bytes + hidden + selected, inner.backward_work.operations + 2};
  return cost;
}

}  // namespace zerostep
