#pragma once
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "launch/job.h"
#include "runtime/checkpoint/checkpoint_reader.h"
#include "runtime/config/config.h"

namespace zerostep {

struct TrainSetup;

// <folder of the run>/checkpoints.
std::string checkpoints_folder(const Config& config);

// Opens the checkpoint that `where` names: a folder, its `latest` or `best`, or "" for the latest of the run. Collective: the ranks share
// the checking of its files. InputError in whatever is missing or damaged.
std::unique_ptr<CheckpointReader> open_checkpoint(Job& job, const std::string& where, const Config& config);

// The folder of the checkpoint that `where` names; "": the latest of the run. InputError: there is none.
std::string checkpoint_to_resume(const std::string& where, const Config& config);

// Of a run that goes on from the checkpoint that `where` names: whether that lies in the run's own folder. A run without a name goes on in
// the folder of the checkpoint where that lies below run.output_dir: `config` gets its name. InputError: the latest is asked for, and there
// is none.
bool settle_resumed_run(const std::string& where, Config& config);

// What a run must have in common with the run that it goes on from, as data.
nlohmann::ordered_json identity_of(const TrainSetup& setup);
// InputError naming what differs: the model and the optimizer's state always, tokenizer, data, seed, batch, sequence length and precision
// unless run.resume_anyway. Gives a line for each other difference that changes what the run computes.
std::vector<std::string> check_same_run(const CheckpointReader& checkpoint, const TrainSetup& setup);

}  // namespace zerostep
