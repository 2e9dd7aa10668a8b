#pragma once
#include <string>
#include <vector>

#include "launch/job.h"
#include "launch/subject.h"
#include "runtime/engine/engine.h"

namespace zerostep {

// What the ranks of a job must have in common. Each function is collective and ends all ranks with one message (InputError's status) where
// they differ: ranks of several hosts may see other files under one path.

// The resolved configuration and the tokenizer.
void require_same_configuration(Job& job, const Subject& subject);

// Something that every rank reads by itself, and what tells its content from others'.
struct SharedInput {
  std::string name;         // the key of the configuration, or what it is
  std::string fingerprint;  // one line
};
void require_same_inputs(Job& job, const std::vector<SharedInput>& inputs);
// Of the first and the last 256 values of each parameter.
std::string fingerprint_of_values(const ModelDefinition& model, const ParameterReader& values);

// run.output_dir, where every rank writes into the folder of the run. Makes it.
void require_shared_output(Job& job, const Config& config);

}  // namespace zerostep
