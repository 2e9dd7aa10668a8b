#include "models/unit_inputs.h"

#include <string>

#include "base/error.h"

namespace zerostep {

const Batch& embedding_batch(const TensorList& inputs, const ForwardContext& context, const char* key, int64_t longest) {
  if (!inputs.empty()) fail_protocol("[embedding] expected no inputs, found {}", inputs.size());
  const Batch& batch = *context.batch;
  if (!batch.positions.defined() && batch.tokens.size(1) > longest)
    fail_input("a sample of {} tokens is longer than the model's {} {}; choose a shorter data.sequence_length", batch.tokens.size(1), key,
               longest);
  return batch;
}

const at::Tensor& only_input(const TensorList& inputs, const char* unit, int index) {
  if (inputs.size() != 1)
    fail_protocol("[{}{}] expected 1 input, found {}", unit, index < 0 ? "" : "." + std::to_string(index), inputs.size());
  return inputs[0];
}

void check_parameters(const UnitInfo& unit, const std::vector<at::Tensor>& parameters) {
  const size_t expected = unit.parameters.size() + unit.borrowed.size();
  if (parameters.size() != expected) fail_protocol("[{}] expected {} parameters, found {}", unit.name, expected, parameters.size());
}

}  // namespace zerostep
