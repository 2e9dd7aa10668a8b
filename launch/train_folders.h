#pragma once
#include "launch/commands/commands.h"
#include "launch/job.h"
#include "launch/train_run.h"

namespace zerostep {

// Collective. Claims the folder that the run goes on in, or begins in, and names the run after it on every rank. One process of the job
// owns it, rank 0. InputError: it holds another run, or something of it is elsewhere needed.
void claim_folder(Job& job, const TrainArguments& arguments, TrainSetup& setup);
// Of --save-model, where it is given; on one rank. InputError: it is the folder of the run, or holds a model.
void claim_model_directory(const TrainArguments& arguments, TrainSetup& setup);
// On rank 0 the folders of the monitors and that of --save-model; other ranks do nothing. InputError as they do.
void claim_other_folders(Job& job, const TrainArguments& arguments, TrainSetup& setup);
// From here on the folder holds this run: what was claimed and made is kept, and on rank 0 the log, the configuration and the plan lie
// there.
void begin_folder(Job& job, TrainSetup& setup);

}  // namespace zerostep
