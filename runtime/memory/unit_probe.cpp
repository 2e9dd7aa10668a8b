#include "runtime/memory/unit_probe.h"

#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/full.h>
#include <ATen/ops/ones_like.h>
#include <ATen/ops/zeros.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <exception>
#include <functional>

#include "base/nth.h"
#include "models/backward_in_caller.h"
#include "models/parameter_gradient.h"
#include "models/scalar_type.h"
#include "runtime/memory/device_batch.h"
#include "runtime/memory/memory_meter.h"
#include "runtime/memory/unit_cost.h"

namespace zerostep {
namespace {

constexpr double kWeight = 0.01;  // small enough that nothing overflows in fp16, and no denormal number, which would be slow

bool is_last(const ModelDefinition& model, int unit) { return static_cast<size_t>(unit) + 1 == model.units().size(); }

// Parameters as the engine hands them to a unit, with gradients where there is a backward.
std::vector<at::Tensor> made_up_parameters(const ModelDefinition& model, int unit, const WorkspaceShape& shape, at::Device place) {
  const UnitInfo& info = model.unit(unit);
  std::vector<at::Tensor> out;
  const auto add = [&](const ParameterInfo& parameter) {
    const at::ScalarType type = scalar_type(parameter.type(shape.compute_type));
    at::Tensor tensor = at::full(parameter.shape, kWeight, at::TensorOptions(type).device(place));
    if (shape.graph) {
      tensor.requires_grad_();
      tensor.mutable_grad() = at::zeros(parameter.shape, at::TensorOptions(at::kFloat).device(place));
    }
    out.push_back(std::move(tensor));
  };
  for (const ParameterInfo& parameter : info.parameters) add(parameter);
  for (const BorrowedParameter& b : info.borrowed) add(nth(model.unit(b.unit).parameters, b.parameter));
  return out;
}

// What a unit hands on, made up: [batch, sequence, width], or a classifier's [batch, classes].
at::Tensor made_up_output(const ModelDefinition& model, int unit, const WorkspaceShape& shape, const ActivationCost& cost,
                          at::Device place) {
  const at::ScalarType type = scalar_type(shape.compute_type);
  const bool classes = model.num_classes() > 0 && is_last(model, unit);
  const int64_t rows = classes ? shape.batch : shape.batch * shape.sequence;
  const int64_t width = cost.output_bytes / (rows * num_bytes(1, shape.compute_type));
  return at::full(classes ? std::vector<int64_t>{rows, width} : std::vector<int64_t>{shape.batch, shape.sequence, width}, kWeight,
                  at::TensorOptions(type).device(place));
}

class Counter {
 public:
  explicit Counter(const Device& device) : device_(device) {}
  // Highest bytes beyond those that were live before.
  int64_t peak_of(const std::function<void()>& body) { return device_.is_host() ? peak_on_host(body) : peak_on_gpu(body); }

 private:
  int64_t peak_on_gpu(const std::function<void()>& body) const {
    const int64_t before = device_.tensor_memory().live_bytes;
    device_.begin_tensor_peak();
    body();
    return device_.tensor_memory().peak_bytes - before;
  }
  int64_t peak_on_host(const std::function<void()>& body) {
    const int64_t before = meter_.live_bytes();
    meter_.reset_peak();
    // With one thread there are no helpers to count, and ranks that are threads may measure at once.
    const MeterScope scope(meter_, at::get_num_threads() > 1 ? MeterScope::Threads::All : MeterScope::Threads::Own);
    body();
    return meter_.peak_bytes() - before;
  }

  const Device& device_;
  MemoryMeter meter_;
};

int64_t beyond(int64_t measured, int64_t tensors) { return std::max<int64_t>(0, measured - tensors); }

// `inference` and `forward` make the output from `input` and `parameters`, without and with a graph.
Workspace measure(const Device& device, const WorkspaceShape& shape, const ActivationCost& cost, const std::vector<at::Tensor>& parameters,
                  at::Tensor& input, const std::function<at::Tensor()>& inference, const std::function<at::Tensor()>& forward) {
  Counter counter(device);
  Workspace out;
  at::Tensor output;
  const auto infer = [&] {
    const at::NoGradGuard no_grad;
    output = inference();
  };
  infer();  // what libraries keep from their first call on is no workspace
  output.reset();
  out.inference_bytes = beyond(counter.peak_of(infer), cost.output_bytes + cost.inference_transient_bytes);
  output.reset();
  if (!shape.graph) return out;
  if (input.defined()) input.requires_grad_();
  for (const bool fresh : {true, false}) {
    mark_gradients(parameters, fresh);
    const int64_t forward_peak = counter.peak_of([&] { output = forward(); });
    out.forward_bytes =
        std::max(out.forward_bytes, beyond(forward_peak, cost.output_bytes + cost.saved_bytes + cost.forward_transient_bytes));
    // As in a step, autograd alone holds the graph and the gradient that comes in.
    const int64_t backward_peak = counter.peak_of([&] {
      std::vector<at::Tensor> gradients{at::ones_like(output)}, roots{std::move(output)};
      torch::autograd::backward(roots, gradients);
    });
    (fresh ? out.backward_bytes : out.accumulating_backward_bytes) =
        beyond(backward_peak, fresh ? cost.backward_transient_bytes : cost.accumulating_backward_transient_bytes);
    output.reset();
    if (input.defined()) input.mutable_grad() = at::Tensor();
  }
  return out;
}

Workspaces probe_on(const Device& device, const ModelDefinition& model, const std::vector<ProbedUnit>& units, const Objective& objective,
                    const WorkspaceShape& shape) {
  const at::Device place(device.name());
  Batch batch = model.example_batch(shape.batch, shape.sequence);
  bring_to_device({&batch}, device);
  Workspaces out;
  at::Tensor hidden, matrix;  // matrix: with which rows are the factors of the logits
  for (const auto& [u, runs] : units) {
    const ActivationCost cost = cost_of_unit(model, u, shape);
    if (!runs) {
      out.units.push_back({.is_measured = false});
      out.extrapolated = true;
      hidden = made_up_output(model, u, shape, cost, place);
      continue;
    }
    const std::vector<at::Tensor> parameters = made_up_parameters(model, u, shape, place);
    const auto unit = model.make_unit(u, parameters);
    const bool hands_on_factors = shape.takes_factors && is_last(model, u);
    const ForwardContext context{&batch, shape.training, /*seed=*/1, /*step=*/0, hands_on_factors};
    const auto outputs = [&] { return unit->forward(hidden.defined() ? TensorList{hidden} : TensorList{}, context); };
    const auto run = [&] { return outputs().at(0); };
    out.units.push_back(measure(device, shape, cost, parameters, hidden, run, run));
    const at::NoGradGuard no_grad;
    const TensorList handed_on = outputs();
    hidden = handed_on.at(0);
    if (hands_on_factors) matrix = handed_on.at(1);
  }
  if (shape.takes_factors && !matrix.defined()) {  // of a unit that is too large to run
    const int64_t width = hidden.size(-1);
    matrix = at::full({model.vocabulary_size(), width}, kWeight, hidden.options());
  }
  const ActivationCost cost = cost_of_objective(model, objective, shape);
  const auto outputs = [&] { return matrix.defined() ? TensorList{hidden, matrix} : TensorList{hidden}; };
  const auto value = [&] {
    objective.value(batch, outputs());
    return at::Tensor();
  };
  out.objective = measure(device, shape, cost, {}, hidden, value, [&] { return objective.sum(batch, outputs()); });
  return out;
}

}  // namespace

Workspaces probe_units(const ModelDefinition& model, const std::vector<ProbedUnit>& units, const Objective& objective,
                       const WorkspaceShape& shape, const Device& device) {
  install_metered_allocator();
  MemoryMeter around;  // so that weights and inputs count for no rank
  const MeterScope scope(around);
  if (device.is_host()) return probe_on(device, model, units, objective, shape);
  device.load_operators();
  at::globalContext().lazyInitDevice(at::Device(device.name()).type());
  const BackwardInCaller in_caller;
  Stream stream = device.compute_stream();
  Workspaces out;
  std::exception_ptr failure;  // which is none of the stream's, on which other work follows
  stream
      .launch([&] {
        try {
          out = probe_on(device, model, units, objective, shape);
        } catch (const c10::OutOfMemoryError&) {
          out = {.units = std::vector<Workspace>(units.size()), .is_known = false};
        } catch (...) {
          failure = std::current_exception();
        }
      })
      .wait();
  stream.synchronize();
  device.release_tensor_memory();
  if (failure) std::rethrow_exception(failure);
  return out;
}

}  // namespace zerostep
