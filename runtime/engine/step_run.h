#pragma once
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "models/batch.h"
#include "runtime/optim/optimizer.h"
#include "runtime/strategy/estimate.h"
#include "runtime/strategy/step_kind.h"
#include "runtime/strategy/strategy.h"

namespace zerostep {

struct StepResult {
  // Mean over the valid tokens of the global batch, at the parameters before the update (or see loss_of_pairs). Where the run makes queries
  // it is theirs: a step of backprop alone has one only where both kinds read the same stream, so that the series is of one data set.
  std::optional<double> loss;
  std::optional<double> bp_loss;  // of backprop, where it ran
  double grad_norm = 0;           // before clipping, of what the update follows: a gradient, a blend, or (its expected norm) an estimate
  double lr = 0;
  double loss_scale = 1;  // in force after the step
  bool skipped = false;
  bool stop = false;  // some rank asked for it
  int64_t elements_gathered = 0, elements_reduced = 0;
  int64_t file_bytes_read = 0, file_bytes_written = 0;  // of this rank's files, within the step
  int64_t device_peak_bytes = 0;                        // highest so far on any rank
  int64_t resident_bytes = 0;                           // now, of the process that has most resident; 0: the system does not say
  std::optional<double> gpu_busy;                       // share of the last moments, of the busiest GPU; on GPUs, where NVML tells it
  std::optional<int64_t> gpu_bytes;                     // taken on the fullest GPU, by whomever; likewise
  bool loss_of_pairs = false;                           // no unperturbed forward was made: the mean over both signs of all directions
  std::vector<double> scalars;                          // projected gradients in direction order, when queries were made
  double clip_scale = 1;
  std::optional<double> cosine;           // of the estimate and the backprop gradient, where both were there
  std::optional<double> slope;            // derivative of the loss along the estimate, by backprop; likewise
  std::optional<double> unchanged_share;  // 16-bit weights that epsilon leaves unchanged, where it was measured
};

// What one step runs on; a mode that has no use for one of them never calls it.
struct StepBatches {
  std::function<Batch(int64_t accumulation_step)> backprop;
  QueryBatches queries;
};

// What the update of a step is, once that is known.
struct PendingUpdate {
  UpdateScalars scalars;
  std::unique_ptr<Estimate> estimate;  // to which they point
};

// A step, or a batch of evaluation, while its actions run: what they are given, and what they find.
struct StepRun {
  int64_t step = 0;
  StepKind kind = {};  // of an evaluation: neither part
  StepBatches batches = {};
  double loss_scale = 1;  // of its backprop
  bool stop = false;      // this rank asks all ranks to stop after it
  StepResult result = {};
  bool counts = true;                           // of evaluation: its loss is added
  int64_t global_tokens = 0;                    // of backprop
  int held = -1;                                // the micro-batch or the pass of queries whose batches are held; -1: none
  std::shared_ptr<PassBatches> held_batches{};  // one batch, or those of a pass; they come to the device on the compute stream
  std::unique_ptr<Estimate> estimate{};         // the gradient of the update, or a share of it; nullptr: it is the reduced one
  std::span<double> instruction_sums{};         // of the directions, of an instructed step
  double agreement_begin = 0;                   // of the one under way, in seconds of the trace; written on a processor's compute stream

  bool trains() const { return kind.backprop || kind.queries; }
};
using SharedRun = std::shared_ptr<StepRun>;  // with what is on the compute stream

}  // namespace zerostep
