#include "runtime/generate/plain_model.h"

#include <ATen/Context.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>

#include <utility>

#include "base/nth.h"

namespace zerostep {
namespace {

std::vector<at::Tensor> read_unit(const UnitInfo& unit, const ParameterReader& read, const at::Device& device) {
  std::vector<at::Tensor> out;
  for (const ParameterInfo& p : unit.parameters) {
    at::Tensor values = at::empty(p.shape, at::kFloat);
    read(p, 0, p.num_elements(), values.mutable_data_ptr<float>());
    out.push_back(values.to(device));
  }
  return out;
}

void ready(const Device& device) {
  if (device.is_host()) return;
  device.load_operators();
  at::globalContext().lazyInitDevice(at::Device(device.name()).type());
}

}  // namespace

PlainModel::PlainModel(const ModelDefinition& model, const ParameterReader& read, const Device& device) : model_(model), device_(device) {
  ready(device);
  const at::Device place(device.name());
  std::vector<std::vector<at::Tensor>> parameters;
  for (const UnitInfo& unit : model.units()) parameters.push_back(read_unit(unit, read, place));
  for (size_t u = 0; u < parameters.size(); ++u) {
    std::vector<at::Tensor> all = parameters[u];
    for (const BorrowedParameter& b : model.units()[u].borrowed) all.push_back(nth(nth(parameters, b.unit), b.parameter));
    units_.push_back(model.make_unit(static_cast<int>(u), std::move(all)));
  }
}

TensorList PlainModel::body(const Batch& batch) const {
  const at::NoGradGuard no_graph;
  const ForwardContext context{&batch, false, 0, 0};
  TensorList hidden;
  for (size_t u = 0; u + 1 < units_.size(); ++u) hidden = units_[u]->forward(hidden, context);
  return hidden;
}

TensorList PlainModel::head(const TensorList& hidden, const Batch& batch) const {
  const at::NoGradGuard no_graph;
  return units_.back()->forward(hidden, {&batch, false, 0, 0});
}

at::Tensor PlainModel::logits(const Batch& batch) const { return head(body(batch), batch).at(0); }

}  // namespace zerostep
