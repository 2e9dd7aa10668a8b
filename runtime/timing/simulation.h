#pragma once
#include <array>
#include <vector>

#include "runtime/plan/cost.h"
#include "runtime/plan/lane_streams.h"
#include "runtime/plan/plan.h"
#include "runtime/timing/machine.h"

namespace zerostep {

// What an action of a simulated step did, seconds from the beginning of the step.
struct SimulatedAction {
  double begin = 0, end = 0;
  int after = -1;  // the action whose end it waited for; -1: none
};

struct Simulation {
  double seconds = 0;                            // of the step
  std::array<double, kLanes> lane_seconds = {};  // that each lane is at work
  // Of the longest chain of actions that wait for one another, by lane: they add up to `seconds`.
  std::array<double, kLanes> bound_seconds = {};
  Lane bound_by = Lane::Compute;         // the lane with most of that chain
  std::vector<SimulatedAction> actions;  // in the order of the plan
};

// Seconds that each action of a plan takes when nothing else runs, from its bytes and operations.
std::vector<double> action_seconds(const Config& config, const ModelLayout& layout, const ModelDefinition& model, const StepLoads& loads,
                                   const Plan& plan, const Machine& machine);
// Runs a plan's lanes as the engine does (runtime/engine/executor.h): each takes its actions in order, the host launches them in the order
// of the plan, and an action starts when what it waits for is done. Where lanes share cores, those at work at one time have as many of them
// as there are; files need none, and reads and writes at one time share the disk, in which both move as many bytes. `apart`: which lanes
// have streams of their own; `seconds`: of each action, alone.
Simulation simulate(const Plan& plan, const StreamsApart& apart, const std::vector<double>& seconds, const Machine& machine);
Lane lane_with_most(const std::array<double, kLanes>& seconds);

}  // namespace zerostep
