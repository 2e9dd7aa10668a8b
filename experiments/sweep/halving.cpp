#include "experiments/sweep/halving.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>

#include "base/error.h"

namespace zerostep {

bool is_better_higher(std::string_view column) {
  return column.starts_with("eval_accuracy") || column == "cosine" || column == "tokens_per_second";
}

std::vector<std::optional<int64_t>> next_rung(const SweepSearch& search, const std::vector<Contestant>& runs,
                                              const std::function<double(size_t run, int64_t steps)>& value) {
  std::vector<std::optional<int64_t>> out(runs.size());
  std::vector<size_t> left(runs.size());
  std::iota(left.begin(), left.end(), size_t{0});
  for (int64_t rung : search.rungs) {
    std::erase_if(left, [&](size_t run) { return runs[run].has_failed; });
    bool is_complete = true;
    for (size_t run : left)
      if (runs[run].steps < rung) {
        out[run] = rung;
        is_complete = false;
      }
    if (!is_complete || left.empty()) return out;
    std::map<size_t, double> values;
    for (size_t run : left) values[run] = value(run, rung);
    if (std::all_of(values.begin(), values.end(), [](const auto& entry) { return std::isnan(entry.second); }))
      fail_run(
          "search.metric {} has no value after {} steps in any run, so the best cannot be told: take another metric, or see to it that it "
          "is measured by then; what the runs have left stays",
          search.metric, rung);
    const auto badness = [&](size_t run) { return std::isfinite(values.at(run)) ? values.at(run) : HUGE_VAL; };
    std::stable_sort(left.begin(), left.end(), [&](size_t a, size_t b) { return badness(a) < badness(b); });
    left.resize(static_cast<size_t>(std::max(1.0, std::ceil(static_cast<double>(left.size()) * search.keep - 1e-9))));
  }
  return out;
}

}  // namespace zerostep
