#pragma once
#include <optional>
#include <string>

#include "launch/fit.h"
#include "runtime/engine/training_plan.h"

namespace zerostep {

// Plans candidates of a search and judges them.
class FitPlanner {
 public:
  // A candidate's configuration and its plan, with no more micro-batches than tell what more of them take.
  struct Planned {
    Config config, few;  // few: what `training` is of
    TrainingPlan training;
  };

  FitPlanner(const Subject& subject, const FitRequest& request, const FitResult& result)
      : subject_(subject), request_(request), result_(result) {}

  // Nothing where the settings contradict the file, which why_not() then says.
  std::optional<Planned> plan(const FitCandidate& candidate);
  // Sets plan_hash.
  static void identify(const Planned& planned, FitCandidate& candidate);
  const std::string& why_not() const { return why_not_; }
  int num_planned() const { return num_planned_; }

  // Sets what the candidate needs and lacks of `capacity`, with what libraries take where there is a meter.
  void judge(const Planned& planned, const TierBytes& capacity, WorkspaceMeter* meter, FitCandidate& candidate) const;
  // Sets how fast it is, whatever it lacks; without a machine it does nothing. InputError where the machine has no figure of what the plan
  // uses.
  void predict(const Planned& planned, FitCandidate& candidate) const;

 private:
  Config config_of(const FitCandidate& candidate) const;
  TrainingPlan plan_of(const Config& config) const;

  const Subject& subject_;
  const FitRequest& request_;
  const FitResult& result_;
  std::string why_not_;
  int num_planned_ = 0;
};

}  // namespace zerostep
