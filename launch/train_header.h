#pragma once
#include "launch/commands/commands.h"
#include "launch/job.h"
#include "launch/train_run.h"

namespace zerostep {

// Collective. Completes setup.facts, and says in the log what the run is and what it runs on.
void say_header(Job& job, const TrainArguments& arguments, TrainSetup& setup);
// The configuration, the layout and the plan, in the log (dump_state).
void dump_state(TrainSetup& setup);

}  // namespace zerostep
