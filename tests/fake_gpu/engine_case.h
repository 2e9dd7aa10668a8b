#pragma once
#include <string>
#include <vector>

#include "tests/runtime/support/zeroth_order_case.h"

namespace zerostep::testing {

// What a step computes.
struct EngineKind {
  std::string name;
  StepConfig::Mode mode;
  StepConfig::Perturbation perturbation = StepConfig::Perturbation::Gaussian;
  bool recomputes = false;
};
inline const std::vector<EngineKind> kEngineKinds = {{"fo", StepConfig::Mode::FirstOrder},
                                                     {"recompute", StepConfig::Mode::FirstOrder, StepConfig::Perturbation::Gaussian, true},
                                                     {"gaussian", StepConfig::Mode::ZerothOrder},
                                                     {"rademacher", StepConfig::Mode::ZerothOrder, StepConfig::Perturbation::Rademacher},
                                                     {"low_rank", StepConfig::Mode::ZerothOrder, StepConfig::Perturbation::LowRank},
                                                     {"instruct", StepConfig::Mode::Instruct}};

// How a run is cut.
struct EngineShape {
  int stage, world;
  DType compute;
  int accumulation;
  double dropout;
};

// Three steps on a GPU.
inline ZerothOrderCase case_of(const EngineKind& kind, const EngineShape& shape) {
  ZerothOrderCase test = ZerothOrderCase::tiny(kind.mode);
  Config& config = test.config;
  config.run.device = "cuda";
  config.zero.stage = shape.stage;
  config.zero.overlap_comm = true;
  config.zero.stage3_max_live_parameters = 4000;
  config.zero.stage3_prefetch_bucket_size = 2000;
  config.step.perturbation = kind.perturbation;
  config.step.bp_interval = 2;
  config.gradient_clipping = 0;
  config.precision.compute = shape.compute;
  config.number_checkpoints = kind.recomputes ? -1 : 0;
  test.model.resid_pdrop = test.model.embd_pdrop = test.model.attn_pdrop = shape.dropout;
  test.global_batch = ZerothOrderCase::kMicroBatch * shape.world * shape.accumulation;
  test.steps = 3;
  return test;
}

}  // namespace zerostep::testing
