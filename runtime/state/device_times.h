#pragma once
#include <string>
#include <vector>

#include "base/stream.h"
#include "base/trace.h"
#include "runtime/state/step_timers.h"

namespace zerostep {

// How long work takes on the streams of a GPU, for the breakdown of a step and for the trace, from marks around it: nothing waits for the
// device but the constructor. Used by one thread.
class DeviceTimes {
 public:
  using Phase = double StepTimers::*;
  // Where the trace (nullptr: there is none) meets the clock of the device, which `stream` is of: waits for it.
  DeviceTimes(Stream stream, Trace* trace);

  // Times what is put on a stream while it lives: for a phase of the step (nullptr: none) and, where it has a row (nullptr: none), for the
  // trace. What is launched meanwhile is in a range of NVTX with that name, which Nsight Systems shows. Nothing where `times` is nullptr.
  class Scope {
   public:
    // The stream must outlive the object.
    Scope(DeviceTimes* times, Stream& stream, Phase phase, const char* row = nullptr, std::string name = {});
    ~Scope();
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    DeviceTimes* times_;
    Stream& stream_;
    Event begin_;
    Phase phase_;
    const char* row_;
    std::string name_;
  };

  // Phases of a step count from here on. Those of the step before whose work was not done when it ended count for this one.
  void begin_step();
  // Phases count no more, and all work that is done is added up. So is that of later calls.
  void end_step();
  // Adds up what is done.
  void read();
  // Of the step since begin_step().
  const StepTimers& timers() const { return timers_; }

 private:
  struct Span {
    Event begin, end;
    Phase phase;
    const char* row;
    std::string name;
  };
  void add(const Span& span);

  Trace* trace_;
  bool is_in_step_ = false;
  StepTimers timers_;
  std::vector<Span> spans_;  // that may not be done
  // A mark and when it was passed, in seconds of the trace: a late one, since CUDA's times have seven digits.
  Event anchor_;
  double anchor_seconds_ = 0;
};

}  // namespace zerostep
