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

namespace {

using Value = std::function<double(size_t run, int64_t steps)>;

size_t count_kept(const SweepSearch& search, size_t runs) {
  return static_cast<size_t>(std::max(1.0, std::ceil(static_cast<double>(runs) * search.keep - 1e-9)));
}

struct Standing {
  std::vector<std::optional<int64_t>> next;  // steps of each run that it still has to reach now
  std::optional<size_t> winner;
};

Standing standing_of(const SweepSearch& search, const std::vector<Contestant>& runs, const Value& value) {
  Standing out;
  out.next.resize(runs.size());
  std::vector<size_t> left(runs.size());
  std::iota(left.begin(), left.end(), size_t{0});
  for (int64_t rung : search.rungs) {
    std::erase_if(left, [&](size_t run) { return runs[run].has_failed; });
    bool is_complete = true;
    for (size_t run : left)
      if (runs[run].steps < rung) {
        out.next[run] = rung;
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
    if (rung == search.rungs.back()) out.winner = left.front();
    left.resize(count_kept(search, left.size()));
  }
  return out;
}

}  // namespace

std::vector<std::optional<int64_t>> next_rung(const SweepSearch& search, const std::vector<Contestant>& runs, const Value& value) {
  return standing_of(search, runs, value).next;
}

std::optional<size_t> winner(const SweepSearch& search, const std::vector<Contestant>& runs, const Value& value) {
  return standing_of(search, runs, value).winner;
}

std::vector<size_t> runs_of_rungs(const SweepSearch& search, size_t runs) {
  std::vector<size_t> out;
  for (size_t i = 0; i < search.rungs.size(); ++i) out.push_back(i == 0 ? runs : count_kept(search, out.back()));
  return out;
}

double most_cost(const SweepSearch& search, const std::vector<Contestant>& runs,
                 const std::function<double(size_t run, int64_t from, int64_t to)>& cost, size_t jobs) {
  const auto able = std::count_if(runs.begin(), runs.end(), [](const Contestant& run) { return !run.has_failed; });
  if (able == 0) return 0;
  const std::vector<size_t> counts = runs_of_rungs(search, static_cast<size_t>(able));
  double out = 0;
  int64_t from = 0;
  for (size_t rung = 0; rung < counts.size(); from = search.rungs[rung++]) {
    std::vector<double> costs;
    for (size_t run = 0; run < runs.size(); ++run)
      if (const int64_t begin = std::max(from, runs[run].steps); !runs[run].has_failed && begin < search.rungs[rung])
        costs.push_back(cost(run, begin, search.rungs[rung]));
    std::sort(costs.begin(), costs.end(), std::greater<>());
    costs.resize(std::min(costs.size(), counts[rung]));
    if (costs.empty()) continue;
    out += std::max(costs.front(), std::accumulate(costs.begin(), costs.end(), 0.0) / static_cast<double>(jobs));
  }
  return out;
}

}  // namespace zerostep
