#include "experiments/plot/evaluation_sets.h"

#include <algorithm>

#include "experiments/plot/colors.h"

namespace zerostep {

EvaluationCurves::EvaluationCurves(const PlotInput& input, std::string_view column) : input_(input), column_(column) {
  const std::string beginning = column_ + ".";
  for (const PlotRun& run : input.runs)
    for (const std::string& name : run.table.columns())
      if (name.starts_with(beginning) && std::find(sets_.begin(), sets_.end(), name.substr(beginning.size())) == sets_.end())
        sets_.push_back(name.substr(beginning.size()));
}

void EvaluationCurves::add(Panel& panel, size_t run, const Grouping& groups) {
  const size_t before = panel.curves.size();
  for (size_t i = 0; i < sets_.size(); ++i) {
    const size_t begin = panel.curves.size();
    add_curve(panel, input_, run, column_ + "." + sets_[i], groups, Curve::Form::Dashed);
    for (size_t c = begin; c < panel.curves.size(); ++c) panel.curves[c].dashes = i;
  }
  if (panel.curves.size() == before) {
    add_curve(panel, input_, run, column_, groups, Curve::Form::Dashed);
    has_plain_ |= panel.curves.size() > before;
  }
  is_empty_ = is_empty_ && panel.curves.size() == before;
}

std::vector<LegendEntry> EvaluationCurves::notes() const {
  std::vector<LegendEntry> out;
  if (has_plain_) out.push_back({"evaluation", kPale, Curve::Form::Dashed});
  for (size_t i = 0; i < sets_.size(); ++i) {
    LegendEntry& entry = out.emplace_back(LegendEntry{"evaluation, " + sets_[i], kPale, Curve::Form::Dashed});
    entry.dashes = i;
  }
  return out;
}

}  // namespace zerostep
