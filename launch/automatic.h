#pragma once
#include <string>
#include <vector>

#include "launch/commands/commands.h"
#include "launch/job.h"
#include "launch/target.h"

namespace zerostep {

// What a file leaves to the program: values of the keys that `plan --fit` chooses which say "auto", or whose block does, and why, a line
// for each. Keys that are left out have their defaults. The prefetch bucket and the persistence threshold of stage 3 that say "auto"
// themselves have what Hugging Face's integration fills in, from the model. Both are empty where the file leaves nothing open.
struct AutomaticValues {
  std::vector<Setting> settings;
  std::vector<std::string> lines;  // for the log
};

// Searches as `plan --fit` does for `target`: by the time of a step where its machine is known, else by memory alone. Nothing computed
// changes: where the file gives no train_batch_size the samples of a step are what they are without a search. InputError: the file is
// wrong, or nothing fits.
AutomaticValues automatic_values(const PlanArguments& arguments, Target target);
// For commands of one process: the arguments with these values, whose lines go to stderr.
PlanArguments with_automatic(PlanArguments arguments, const Target& target);

// Collective: rank 0's values go into every rank's `arguments`. A run that goes on from a checkpoint of as many ranks has the values that
// it was written with. Gives the lines. InputError as automatic_values().
std::vector<std::string> settle_automatic(Job& job, TrainArguments& arguments, int threads);

}  // namespace zerostep
