#include "experiments/sweep/search.h"

#include <fmt/format.h>

#include <algorithm>
#include <span>
#include <string_view>

#include "base/format.h"
#include "experiments/records/metrics_table.h"

namespace zerostep {

std::vector<Contestant> Search::contestants(const std::vector<SweepRow>& rows) {
  std::vector<Contestant> out;
  // One that was stopped or killed from outside waits for --resume: what ends it may do so again.
  for (const SweepRow& row : rows) out.push_back({row.steps, row.is_stopped() || row.state == SweepState::Failed});
  return out;
}

std::vector<std::optional<int64_t>> Search::next(const std::vector<SweepRow>& rows) {
  return next_rung(search_, contestants(rows), [&](size_t run, int64_t steps) { return value(rows[run].run, steps); });
}

std::string Search::outcome(const std::vector<SweepRow>& rows) {
  const std::optional<size_t> best =
      winner(search_, contestants(rows), [&](size_t run, int64_t steps) { return value(rows[run].run, steps); });
  if (!best) return "";
  const double sign = is_better_higher(search_.metric) ? -1 : 1;
  return fmt::format("the best of the search is {}: its {} after {} steps is {:.5g}", rows[*best].run, search_.metric,
                     grouped(search_.rungs.back()), sign * value(rows[*best].run, search_.rungs.back()));
}

std::string Search::rung_text(int64_t steps) const {
  const auto rung = std::lower_bound(search_.rungs.begin(), search_.rungs.end(), steps) - search_.rungs.begin();
  return fmt::format("rung {} of {}", rung + 1, search_.rungs.size());
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
