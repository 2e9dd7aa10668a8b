#pragma once
#include "models/unit.h"

namespace zerostep {

// The batch of a first unit, which has no inputs. InputError when samples without positions of their own are longer than the `longest` that
// the model's option `key` allows.
const Batch& embedding_batch(const TensorList& inputs, const ForwardContext& context, const char* key, int64_t longest);
// What comes into any other unit, named by `unit` and, where there are several of them, `index`.
const at::Tensor& only_input(const TensorList& inputs, const char* unit, int index = -1);
// A protocol error where a unit is made of another number of parameters than its description says.
void check_parameters(const UnitInfo& unit, const std::vector<at::Tensor>& parameters);

}  // namespace zerostep
