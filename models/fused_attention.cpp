#include "models/fused_attention.h"

#include <ATen/Context.h>
#include <ATen/ops/scaled_dot_product_attention.h>
#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/function_hook.h>

#include <atomic>
#include <memory>
#include <mutex>
#include <string>

namespace zerostep {
namespace {

using torch::autograd::Node;
using torch::autograd::variable_list;

// Deterministic algorithms of LibTorch from the first begin() to the last end(), of any threads. They are an error there for operations
// that have none (warnings alone would leave attention as it is), so nothing else may run meanwhile.
class DeterministicAlgorithms {
 public:
  static void begin() {
    State& state = state_of_all();
    std::lock_guard lock(state.mutex);
    if (state.depth++ > 0) return;
    at::Context& context = at::globalContext();
    state.before = context.deterministicAlgorithms();
    state.warns_before = context.deterministicAlgorithmsWarnOnly();
    state.fills_before = context.deterministicFillUninitializedMemory();
    context.setDeterministicAlgorithms(true, false);
    context.setDeterministicFillUninitializedMemory(false);
  }
  static void end() {
    State& state = state_of_all();
    std::lock_guard lock(state.mutex);
    if (state.depth == 0 || --state.depth > 0) return;
    restore(state);
  }
  static void end_all() {
    State& state = state_of_all();
    std::lock_guard lock(state.mutex);
    if (state.depth == 0) return;
    state.depth = 0;
    restore(state);
  }

 private:
  struct State {
    std::mutex mutex;
    int depth = 0;
    bool before = false, warns_before = false, fills_before = false;
  };
  static void restore(const State& state) {
    at::globalContext().setDeterministicAlgorithms(state.before, state.warns_before);
    at::globalContext().setDeterministicFillUninitializedMemory(state.fills_before);
  }
  static State& state_of_all() {
    static State state;
    return state;
  }
};

std::atomic<bool>& is_to_repeat() {
  static std::atomic<bool> repeats = true;
  return repeats;
}

struct Begin final : torch::autograd::FunctionPreHook {
  variable_list operator()(const variable_list& gradients) override {
    DeterministicAlgorithms::begin();
    return gradients;
  }
};
struct End final : torch::autograd::FunctionPostHook {
  variable_list operator()(const variable_list& results, const variable_list&) override {
    DeterministicAlgorithms::end();
    return results;
  }
};

// Behind what cuts its result to the width that it was padded from; nullptr: there is none.
Node* fused_node_behind(const at::Tensor& attended) {
  constexpr int kMostSteps = 4;
  const std::shared_ptr<Node> last = attended.grad_fn();
  Node* node = last.get();
  for (int step = 0; node != nullptr && step < kMostSteps; ++step) {
    if (node->name().starts_with("ScaledDotProduct")) return node;
    node = node->num_outputs() == 0 ? nullptr : node->next_edge(0).function.get();
  }
  return nullptr;
}

}  // namespace

void make_backward_deterministic(const at::Tensor& attended) {
  Node* const node = fused_node_behind(attended);
  if (node == nullptr) return;
  node->add_pre_hook(std::make_unique<Begin>());
  node->add_post_hook(std::make_unique<End>());
}

void end_deterministic_algorithms() { DeterministicAlgorithms::end_all(); }

void let_attention_repeat(bool repeats) {
  static const bool uses_cudnn = at::globalContext().userEnabledCuDNNSDP();
  is_to_repeat() = repeats;
  at::globalContext().setSDPUseCuDNN(uses_cudnn && !repeats);
}

bool attention_repeats(at::Device device) { return !device.is_cpu() && is_to_repeat(); }

at::Tensor scaled_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const std::optional<at::Tensor>& mask,
                            bool causal) {
  at::Tensor attended = at::scaled_dot_product_attention(q, k, v, mask, 0.0, causal);
  if (attention_repeats(q.device()) && attended.requires_grad()) make_backward_deterministic(attended);
  return attended;
}

}  // namespace zerostep
