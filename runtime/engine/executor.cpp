#include "runtime/engine/executor.h"

#include <memory>
#include <optional>

namespace zerostep {

bool Executor::execute(const Plan& plan, ActionRunner& runner) {
  done_.assign(plan.actions.size(), Event());
  int i = 0;
  try {
    for (; i < static_cast<int>(plan.actions.size()); ++i) {
      const Action& action = plan.action(i);
      runner.prepare(plan, action);
      wait_for(plan, action);
      Event& done = nth(done_, i) = runner.launch(plan, action);
      if (done.ready()) done.wait();  // rethrows
      if (runner.agree(plan, action)) continue;
      for (Stream* stream : lanes_.streams()) stream->synchronize();
      return false;
    }
  } catch (const PeerError&) {
    throw;  // another rank says where
  } catch (const std::exception& error) {
    for (int earlier = 0; earlier <= i; ++earlier)
      if (nth(done_, earlier).failed()) runner.explain(plan, plan.action(earlier), error);
    throw;
  }
  return true;
}

void Executor::wait_for(const Plan& plan, const Action& action) {
  Stream& stream = lanes_.stream_of(action.lane);
  for (const int index : action.waits) {
    const Event& event = nth(done_, index);
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
    const auto start = std::make_shared<std::optional<TimeInto>>();
    double& seconds = lanes_.compute_timers.*phase;
    Trace::on_stream(lanes_.trace, stream, stream_name(Lane::Compute), what, [&] {
      stream.enqueue([start, &seconds] { start->emplace(seconds); });
      stream.wait(event);
      return stream.enqueue([start] { start->reset(); });
    });
  }
}

}  // namespace zerostep
