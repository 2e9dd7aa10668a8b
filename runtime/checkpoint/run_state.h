#pragma once
#include <nlohmann/json_fwd.hpp>

#include "runtime/checkpoint/checkpoint_reader.h"
#include "runtime/engine/engine.h"

namespace zerostep {

// Between an engine and a checkpoint.
nlohmann::ordered_json progress_json(const TrainingProgress& progress);
// InputError naming the checkpoint when something is missing or of another kind.
TrainingProgress progress_of(const CheckpointReader& checkpoint);

// The values of a checkpoint, for an engine to begin with. The reader must outlive what is returned.
ParameterReader parameters_of(const CheckpointReader& checkpoint);
// InputError naming a parameter that the checkpoint does not hold whole, or whose optimizer kept another number of arrays than `arrays`
// says.
void check_holds(const CheckpointReader& checkpoint, const ModelDefinition& model, const TrainingPlan* plan);
// The optimizer's arrays and the scalars, into an engine that began with parameters_of().
void restore(Engine& engine, const CheckpointReader& checkpoint);

// Host memory in which a rank stages checkpoints, where the configuration makes some: the largest file of any rank. `is_exact`: every
// rank's header is made; false: not where ranks own equal shares, so that a longer one may be missed by its pages, which is quick for many
// ranks.
int64_t staging_bytes(const Config& config, const TrainingPlan& plan, bool is_exact = true);

}  // namespace zerostep
