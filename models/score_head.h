#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>

#include "models/activation_cost.h"
#include "models/unit.h"

namespace zerostep {

// The last unit of a decoder that classifies samples, transformers' ...ForSequenceClassification: `head` turns the hidden state of each
// sample's last token into logits, here [B, classes]. That token is the last one that the mask lets through and that is not `padding`
// (config.json's pad_token_id; nothing: any token); where there is none the first, as transformers finds it in the sample alone.
std::unique_ptr<Unit> make_score_head(std::unique_ptr<Unit> head, std::optional<int32_t> padding);

// Its cost for hidden states of `width`: `head` gives that of the unit inside.
ActivationCost score_head_cost(const ActivationShape& shape, int64_t width,
                               const std::function<ActivationCost(const ActivationShape&)>& head);

}  // namespace zerostep
