#pragma once
#include <functional>
#include <memory>
#include <string>

#include "models/model.h"
#include "models/objective.h"
#include "runtime/config/config.h"
#include "runtime/data/data_stream.h"
#include "runtime/engine/engine.h"
#include "runtime/report/plan_report.h"

namespace zerostep {

// What a probe tries epsilons and learning rates on: a file's model, data and objective, on one rank. Everything outlives the probe.
struct ProbeInput {
  const Config& config;
  const ModelDefinition& model;
  const ModelDefinition& without_dropout;  // the same, for derivatives: forward-only passes have none
  const Objective& objective;
  const ParameterReader& values;
  const DataStream& data;      // what the queries read, or backprop in mode fo
  const DataStream* backprop;  // nullptr: the same
  MemoryLimit limit;
  Device device;
  Communicator self;  // of this rank alone
  std::function<void(const std::string&)> progress;

  // Samples of a query, or of backprop in mode fo, and the micro-batches they are cut into.
  const BatchConfig& batch() const { return config.step.uses_queries() ? config.step.query_batch : config.batch; }
};

// An engine at the first values. InputError where the step does not fit.
std::unique_ptr<Engine> make_probe_engine(const ProbeInput& input, const Config& config, const ModelDefinition& model);

}  // namespace zerostep
