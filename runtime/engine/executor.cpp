#include "runtime/engine/executor.h"

#include <memory>
#include <optional>

namespace zerostep {

bool Executor::execute(const Plan& plan, ActionRunner& runner) {
  before_ = lanes_.device.is_host() ? List() : std::move(now_);
  now_ = {&plan, {}};
  now_.done.reserve(plan.actions.size());
  return explained(runner, [&] {
    for (int i = 0; i < static_cast<int>(plan.actions.size()); ++i) {
      const Action& action = plan.action(i);
      runner.prepare(plan, action);
      wait_for(plan, action);
      const Event& done = now_.done.emplace_back(runner.launch(plan, action));
      done.rethrow_known();           // before what is launched next waits for ranks that wait for what was left out
      if (done.ready()) done.wait();  // rethrows
      if (runner.agree(plan, action)) continue;
      lanes_.join();
      return false;
    }
    return true;
  });
}

void Executor::settle(ActionRunner& runner) {
  if (lanes_.device.is_host()) return;
  explained(runner, [&] {
    lanes_.compute.synchronize();  // whose last action came after all others
    return true;
  });
}

template <typename Body>
bool Executor::explained(ActionRunner& runner, const Body& body) {
  try {
    return body();
  } catch (const PeerError&) {
    throw;  // another rank says where
  } catch (const std::exception& error) {
    for (const List* list : {&before_, &now_})
      for (int i = 0; i < std::ssize(list->done); ++i)
        if (nth(list->done, i).failed()) runner.explain(*list->plan, list->plan->action(i), list == &before_, error);
    throw;
  }
}

void Executor::wait_for(const Plan& plan, const Action& action) {
  Stream& stream = lanes_.stream_of(action.lane);
  for (const int index : action.waits) {
    const Event& event = nth(now_.done, index);
    const bool is_host = lanes_.device.is_host();
    if (action.lane != Lane::Compute || (!is_host && !lanes_.device_times) || event.ready()) {
      stream.wait(event);
      continue;
    }
    const DeviceTimes::Phase phase = action.kind == ActionKind::Visit || action.kind == ActionKind::Drop ? &StepTimers::wait
                                     : action.kind == ActionKind::Agree                                  ? &StepTimers::reduce
                                                                                                         : &StepTimers::update;
    const std::string what = lanes_.trace != nullptr ? "wait for " + describe(layout_, plan, plan.action(index)) : "";
    if (!is_host) {
      const DeviceTimes::Scope scope(lanes_.device_times.get(), stream, phase, stream_name(Lane::Compute), what);
      stream.wait(event);
      continue;
    }
    const auto start = std::make_shared<std::optional<TimeInto<double>>>();
    double& seconds = lanes_.compute_timers.*phase;
    Trace::on_stream(lanes_.trace, stream, stream_name(Lane::Compute), what, [&] {
      stream.enqueue([start, &seconds] { start->emplace(seconds); });
      stream.wait(event);
      return stream.enqueue([start] { start->reset(); });
    });
  }
}

}  // namespace zerostep
