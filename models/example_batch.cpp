#include <ATen/ops/arange.h>
#include <ATen/ops/ones.h>

#include "models/model.h"

namespace zerostep {

Batch ModelDefinition::example_batch(int64_t batch, int64_t sequence) const {
  const auto spread = [](int64_t rows, int64_t columns, int64_t below) {
    return at::arange(rows * columns, at::TensorOptions().dtype(at::kLong)).remainder(below).view({rows, columns});
  };
  const bool classifies = num_classes() > 0;
  Batch out;
  out.tokens = spread(batch, sequence, vocabulary_size());
  out.labels = classifies ? spread(batch, 1, num_classes()) : spread(batch, sequence, vocabulary_size());
  if (classifies) {
    out.mask = at::ones({batch, sequence}, at::TensorOptions().dtype(at::kBool));
    if (sequence > 1) out.mask.select(1, sequence - 1).fill_(false);
    out.pads_ends = true;
  }
  for (int64_t i = 0; i < batch; ++i) out.sample_ids.push_back(i);
  out.valid_tokens = out.global_valid_tokens = out.labels.numel();
  return out;
}

}  // namespace zerostep
