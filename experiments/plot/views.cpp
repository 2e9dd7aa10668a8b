#include "experiments/plot/views.h"

#include <array>

namespace zerostep {

std::span<const View> all_views() {
  static const std::array<View, 8> kViews{
      View{"loss",
           "training loss solid, evaluation loss dashed, of each named set",
           "steps with a loss",
           {"loss", "eval_loss", "eval_loss.*"},
           loss_view},
      View{"accuracy",
           "of classifiers: the accuracy of evaluations, of each named set",
           "a column eval_accuracy, as a classifier's evaluations leave it",
           {"eval_accuracy", "eval_accuracy.*"},
           accuracy_view},
      View{"overview", "the loss by mode; final losses by mode, scope and batch size", "steps with a loss", {"loss"}, overview_view},
      View{"zo",
           "the loss by queries, final losses against queries, norm of the gradient, cosine",
           "steps that make queries (step.mode other than fo)",
           {"loss", "grad_norm", "cosine"},
           zo_view},
      View{"compare",
           "means over seeds with their range, final losses, speed, stability",
           "steps with a loss",
           {"loss", "tokens_per_second", "step_seconds", "timestamp"},
           compare_view},
      View{"alternating",
           "loss and norm of the gradient of backprop steps and of queries apart",
           "steps of both kinds, backprop and queries (step.mode alternating, calibrate or instruct)",
           {"step", "loss", "bp_loss", "grad_norm"},
           alternating_view},
      View{"memory",
           "memory as measured against the plan, by tier",
           "a column device_peak_bytes, as `zerostep train` writes it",
           {"device_peak_bytes", "host_peak_bytes", "file_peak_bytes"},
           memory_view},
      View{"lanes", "what the lanes of a step did, from a trace", "a trace_rank*.json, which run.trace true leaves", {}, lanes_view}};
  return kViews;
}

}  // namespace zerostep
