#pragma once
#include "launch/job.h"
#include "launch/train_run.h"
#include "runtime/checkpoint/checkpoint_writer.h"

namespace zerostep {

// A run that ends early first completes the checkpoint that is being written. Both block until it is, or as long as they say in the log.

// Before a second signal, of this number, ends the run. The log belongs to the thread that trains, so the thread that ends the run appends
// to the log's file.
void wait_for_checkpoint(Job& job, const TrainSetup& setup, CheckpointWriter& writer, int signal);
// Collective, after a failure: what the run still has to give, in so many seconds at the latest. That its log cannot be written does not
// keep it from that.
void complete_checkpoint(Job& job, TrainSetup& setup, CheckpointWriter& writer, double seconds);

}  // namespace zerostep
