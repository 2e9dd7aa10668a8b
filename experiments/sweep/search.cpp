#include "experiments/sweep/search.h"

#include <algorithm>
#include <span>
#include <string_view>

#include "experiments/records/metrics_table.h"
#include "experiments/sweep/halving.h"

namespace zerostep {

std::vector<std::optional<int64_t>> Search::next(const std::vector<SweepRow>& rows) {
  std::vector<Contestant> contestants;
  // One that was stopped or killed from outside waits for --resume: what ends it may do so again.
  for (const SweepRow& row : rows) contestants.push_back({row.steps, row.is_stopped() || row.state == SweepState::Failed});
  return next_rung(search_, contestants, [&](size_t run, int64_t steps) { return value(rows[run].run, steps); });
}

double Search::value(const std::string& run, int64_t steps) {
  const std::pair key(run, steps);
  if (const auto known = values_.find(key); known != values_.end()) return known->second;
  const std::string_view column = search_.metric;
  const MetricsTable table = MetricsTable::read(sweep_ / run / "metrics.csv", {&column, 1});
  const std::span<const double> values = table.column(column);
  const double sign = is_better_higher(column) ? -1 : 1;
  return values_[key] = sign * final_mean(values.first(std::min(values.size(), static_cast<size_t>(steps))));
}

}  // namespace zerostep
