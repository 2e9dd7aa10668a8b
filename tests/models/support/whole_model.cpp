#include "tests/models/support/whole_model.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>

namespace zerostep {

at::Tensor& WholeModel::parameter(const std::string& name) {
  for (size_t u = 0; u < parameters.size(); ++u) {
    for (size_t p = 0; p < parameters[u].size(); ++p) {
      if (definition->units()[u].parameters[p].name == name) return parameters[u][p];
    }
  }
  throw std::out_of_range(name);
}

TensorList WholeModel::forward(const ForwardContext& context) {
  TensorList h;
  for (auto& unit : units) h = unit->forward(h, context);
  return h;
}

std::vector<at::Tensor> WholeModel::all_parameters() const {
  std::vector<at::Tensor> all;
  for (const auto& unit : parameters) all.insert(all.end(), unit.begin(), unit.end());
  return all;
}

WholeModel make_model(std::unique_ptr<ModelDefinition> definition, const std::function<void(const ParameterInfo&, at::Tensor&)>& fill,
                      at::ScalarType compute_type) {
  WholeModel model;
  model.definition = std::move(definition);
  for (const UnitInfo& unit : model.definition->units()) {
    auto& tensors = model.parameters.emplace_back();
    for (const ParameterInfo& info : unit.parameters) {
      at::Tensor t = at::empty(info.shape);
      fill(info, t);
      if (info.shape.size() > 1) t = t.to(compute_type);
      tensors.push_back(t.requires_grad_());
    }
  }
  for (size_t u = 0; u < model.parameters.size(); ++u) {
    std::vector<at::Tensor> tensors = model.parameters[u];
    for (const BorrowedParameter& b : model.definition->units()[u].borrowed) tensors.push_back(model.parameters[b.unit][b.parameter]);
    model.units.push_back(model.definition->make_unit(static_cast<int>(u), tensors));
  }
  return model;
}

WholeModel make_random_model(std::unique_ptr<ModelDefinition> definition, uint64_t seed, at::ScalarType compute_type) {
  auto generator = at::make_generator<at::CPUGeneratorImpl>(seed);
  return make_model(
      std::move(definition),
      [&](const ParameterInfo& info, at::Tensor& t) {
        t.normal_(0, info.shape.size() > 1 ? 0.1 : 0.2, generator);
        if (info.init.kind == ParameterInit::Kind::Ones) t.add_(1);
      },
      compute_type);
}

void fill_by_formula(const ParameterInfo& info, at::Tensor& t) {
  const at::Tensor i = at::arange(info.first, info.first + info.num_elements(), at::kDouble);
  t.copy_((at::sin(0.37 * i) * 0.3 + (info.init.kind == ParameterInit::Kind::Ones ? 1.0 : 0.0)).view(info.shape));
}

Batch make_batch(int64_t samples, int64_t length, int64_t vocabulary, uint64_t seed) {
  auto generator = at::make_generator<at::CPUGeneratorImpl>(seed);
  Batch batch;
  batch.tokens = at::randint(vocabulary, {samples, length}, generator, at::kLong);
  batch.labels = at::randint(vocabulary, {samples, length}, generator, at::kLong);
  for (int64_t i = 0; i < samples; ++i) batch.sample_ids.push_back(i);
  batch.valid_tokens = batch.global_valid_tokens = samples * length;
  return batch;
}

double relative_distance(const at::Tensor& a, const at::Tensor& b) {
  const at::Tensor x = a.detach().to(at::kDouble), y = b.detach().to(at::kDouble);
  return (x - y).norm().item<double>() / y.norm().item<double>();
}

}  // namespace zerostep
