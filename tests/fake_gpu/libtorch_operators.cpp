#include <ATen/Context.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/stack.h>
#include <ATen/ops/copy_native.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_strided.h>
#include <ATen/ops/from_blob.h>
#include <c10/cuda/CUDAStream.h>
#include <c10/util/Exception.h>
#include <torch/library.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "fake_gpu/fake_gpu.h"

// LibTorch's CUDA operators on the fake GPU: each runs the processor's kernel over the same bytes, in the caller, when the work of the
// current stream is done. Loading this library puts them in the place of LibTorch's own, and lets attention take its plain form. An
// operator without a kernel for the processor keeps its own, whose launch the fake refuses.
namespace fake_gpu {
namespace {

// Tensors of the device, and what stands for them on the processor.
struct Alias {
  at::Tensor device, processor;
};

at::Tensor on_processor(const at::Tensor& tensor) {
  const at::TensorOptions options = tensor.options().device(at::kCPU).requires_grad(false);
  if (tensor.numel() == 0) return at::empty(tensor.sizes(), options);  // an output that the operator sizes
  return at::from_blob(tensor.data_ptr(), tensor.sizes(), tensor.strides(), options);
}

at::Tensor on_device(const at::Tensor& tensor, at::Device device, const std::vector<Alias>& aliases) {
  if (!tensor.defined() || tensor.is_cuda()) return tensor;
  for (const Alias& alias : aliases)
    if (alias.processor.is_same(tensor)) return alias.device;
  at::Tensor out = at::empty_strided(tensor.sizes(), tensor.strides(), tensor.options().device(device));
  if (tensor.numel() > 0) {
    const size_t offset = static_cast<size_t>(tensor.storage_offset()) * tensor.element_size();
    std::memcpy(out.data_ptr(), tensor.data_ptr(), std::min(tensor.storage().nbytes() - offset, out.storage().nbytes()));
  }
  return out;
}

// Calls `change` for every tensor among some values of an operator, and puts its result there.
template <typename Change>
void change_tensors(at::ArrayRef<c10::IValue> values, const Change& change) {
  for (const c10::IValue& given : values) {
    auto& value = const_cast<c10::IValue&>(given);
    if (value.isTensor()) {
      value = change(value.toTensor());
    } else if (value.isTensorList()) {
      c10::List<at::Tensor> list;
      for (const at::Tensor& tensor : value.toTensorVector()) list.push_back(change(tensor));
      value = list;
    } else if (value.isOptionalTensorList()) {
      c10::List<std::optional<at::Tensor>> list;
      for (const std::optional<at::Tensor>& tensor : value.toOptionalTensorVector())
        list.push_back(tensor ? std::optional(change(*tensor)) : std::nullopt);
      value = list;
    }
  }
}

// A GPU's softmax makes fp32 of fp16 by itself, and its backward the reverse; the processor's have one type. Where that is asked for the
// call becomes one of fp32, and the type that its result is to have is returned.
std::optional<at::ScalarType> widen_softmax(const c10::OperatorHandle& op, at::ArrayRef<c10::IValue> arguments) {
  const std::string& name = op.operator_name().name;
  const auto set = [&](size_t i, c10::IValue value) { const_cast<c10::IValue&>(arguments[i]) = std::move(value); };
  if ((name == "aten::_softmax" || name == "aten::_log_softmax") && arguments[2].toBool()) {
    set(0, arguments[0].toTensor().to(at::kFloat));
    set(2, false);
  }
  if (name != "aten::_softmax_backward_data" && name != "aten::_log_softmax_backward_data") return std::nullopt;
  const at::ScalarType type = arguments[3].toScalarType();
  if (type == arguments[0].toTensor().scalar_type()) return std::nullopt;
  set(3, arguments[0].toTensor().scalar_type());
  return type;
}

// What a library would take for a product on this device while it runs; undefined: nothing.
at::Tensor workspace_of(const std::string& operator_name, std::optional<at::Device> device) {
  static const int64_t bytes = settings().product_workspace_bytes;
  static const std::set<std::string_view> products{"aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm"};
  if (bytes == 0 || !device || !products.contains(operator_name)) return {};
  return at::empty({bytes}, at::TensorOptions(at::kByte).device(*device));
}

void run_on_processor(const c10::OperatorHandle& op, c10::DispatchKeySet, torch::jit::Stack* stack) {
  const StandIn access(c10::cuda::getCurrentCUDAStream());
  std::vector<Alias> aliases;
  std::optional<at::Device> device;
  const auto arguments = torch::jit::last(*stack, op.schema().arguments().size());
  change_tensors(arguments, [&](const at::Tensor& tensor) {
    if (!tensor.defined() || !tensor.is_cuda()) return tensor;
    device = tensor.device();
    aliases.push_back({tensor, on_processor(tensor)});
    return aliases.back().processor;
  });
  for (const c10::IValue& given : arguments) {
    if (!given.isDevice() || !given.toDevice().is_cuda()) continue;
    device = given.toDevice();
    const_cast<c10::IValue&>(given) = at::Device(at::kCPU);
  }
  const std::optional<at::ScalarType> result_type = widen_softmax(op, arguments);
  const at::Tensor workspace = workspace_of(op.operator_name().name, device);
  op.redispatchBoxed(c10::DispatchKeySet(c10::DispatchKey::CPU), stack);
  if (result_type) stack->back() = stack->back().toTensor().to(*result_type);
  for (Alias& alias : aliases) {
    if (alias.processor.sizes() == alias.device.sizes()) continue;
    alias.device.resize_(alias.processor.sizes());
    std::memcpy(alias.device.data_ptr(), alias.processor.contiguous().data_ptr(), alias.processor.nbytes());
  }
  if (device)
    change_tensors(torch::jit::last(*stack, op.schema().returns().size()),
                   [&](const at::Tensor& tensor) { return on_device(tensor, *device, aliases); });
}

int64_t choose_plain_attention(const at::Tensor&, const at::Tensor&, const at::Tensor&, const std::optional<at::Tensor>&, double, bool,
                               std::optional<double>, bool) {
  return 0;
}

// Plain copies stay copies of the runtime; a change of type or layout is done on the processor.
at::Tensor& copy(at::Tensor& to, const at::Tensor& from, bool is_async) {
  if (to.scalar_type() == from.scalar_type() && to.is_contiguous() && from.is_contiguous() && to.sizes() == from.sizes())
    return at::native::copy_(to, from, is_async);
  const StandIn access(c10::cuda::getCurrentCUDAStream());
  const at::Tensor target = to.is_cuda() ? on_processor(to) : to;
  target.copy_(from.is_cuda() ? on_processor(from) : from);
  return to;
}

// LibTorch warns where an operator's kernel is replaced.
class NoWarnings final : public c10::WarningHandler {
 public:
  void process(const c10::Warning&) override {}
};

__attribute__((constructor)) void install() {
  // What makes tensors and views of them, or tells about them, computes nothing and stays as it is.
  const std::set<std::string> kept = {"empty.memory_format",
                                      "empty_strided",
                                      "as_strided",
                                      "view",
                                      "view.dtype",
                                      "_reshape_alias",
                                      "alias",
                                      "set_",
                                      "set_.source_Storage",
                                      "set_.source_Storage_storage_offset",
                                      "set_.source_Tensor",
                                      "resize_",
                                      "unfold",
                                      "record_stream",
                                      "_local_scalar_dense",
                                      "is_set_to",
                                      "view_as_real",
                                      "view_as_complex",
                                      "is_pinned",
                                      "_pin_memory",
                                      "copy_",
                                      "_fused_sdp_choice"};
  NoWarnings no_warnings;
  const c10::WarningUtils::WarningHandlerGuard quiet(&no_warnings);
  at::globalContext().setSDPUseFlash(false);
  at::globalContext().setSDPUseMemEfficient(false);
  at::globalContext().setSDPUseCuDNN(false);
  // Never taken back: it ends with the process.
  auto* const library = new torch::Library(torch::Library::IMPL, "aten", c10::DispatchKey::CUDA, __FILE__, __LINE__);
  for (const c10::OperatorName& name : c10::Dispatcher::singleton().getRegistrationsForDispatchKey(c10::DispatchKey::CUDA)) {
    constexpr std::string_view kNamespace = "aten::";
    if (name.name.rfind(kNamespace, 0) != 0) continue;
    const std::string full = name.name.substr(kNamespace.size()) + (name.overload_name.empty() ? "" : "." + name.overload_name);
    const auto op = c10::Dispatcher::singleton().findOp(name);
    if (kept.count(full) > 0 || !op || !op->hasKernelForDispatchKey(c10::DispatchKey::CPU)) continue;
    library->impl(full.c_str(), torch::CppFunction::makeFromBoxedFunction<&run_on_processor>());
  }
  library->impl("copy_", &copy);
  library->impl("_fused_sdp_choice", &choose_plain_attention);
}

}  // namespace
}  // namespace fake_gpu
