#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "experiments/plot/view_parts.h"

namespace zerostep {

// The curves of what runs have come to on their evaluation data: one of a column ("eval_loss"), or of a run with named sets one a set
// ("eval_loss.NAME"), of which the column itself is the first. Each set has dashes of its own, which a legend names.
class EvaluationCurves {
 public:
  EvaluationCurves(const PlotInput& input, std::string_view column);
  // Of a run into a panel.
  void add(Panel& panel, size_t run, const Grouping& groups);
  bool is_empty() const { return is_empty_; }
  // "evaluation", and those of the sets: "evaluation, news".
  std::vector<LegendEntry> notes() const;

 private:
  const PlotInput& input_;
  std::string column_;
  std::vector<std::string> sets_;  // names of the sets of any run
  bool has_plain_ = false, is_empty_ = true;
};

}  // namespace zerostep
