#pragma once
#include <c10/core/AutogradState.h>

namespace zerostep {

// Autograd runs nodes of a GPU in a thread of its own, which knows nothing of the caller's thread-locals. While this lives it runs them in
// the caller, as it does on a processor.
class BackwardInCaller {
 public:
  BackwardInCaller() : before_(state().get_multithreading_enabled()) { state().set_multithreading_enabled(false); }
  ~BackwardInCaller() { state().set_multithreading_enabled(before_); }
  BackwardInCaller(const BackwardInCaller&) = delete;
  BackwardInCaller& operator=(const BackwardInCaller&) = delete;

 private:
  static c10::AutogradState& state() { return c10::AutogradState::get_tls_state(); }
  bool before_;
};

}  // namespace zerostep
