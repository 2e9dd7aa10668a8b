#pragma once
#include <memory>
#include <optional>

#include "experiments/process/process.h"

namespace zerostep {

// What runs one run of a sweep: a process of this machine, or a task of a batch system.
class Work {
 public:
  virtual ~Work() = default;
  // Whether it runs; a batch system may let it wait.
  virtual bool has_begun() = 0;
  // Exit status, or 128 + signal, once it has ended; does not wait.
  virtual std::optional<int> ended() = 0;
  // Asks the run to stop after its step, and to save where it makes checkpoints.
  virtual void stop() = 0;
  // Ends it: at once where it did not heed a former call.
  virtual void kill() = 0;
};

// A process of this machine.
std::unique_ptr<Work> make_local_work(const ProcessRequest& request);

}  // namespace zerostep
