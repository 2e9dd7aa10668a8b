#pragma once
#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "experiments/sweep/halving.h"
#include "experiments/sweep/sweep_file.h"
#include "experiments/sweep/sweep_row.h"

namespace zerostep {

// The search of a sweep over its runs, as their folders tell of them.
class Search {
 public:
  Search(SweepSearch search, std::filesystem::path sweep) : search_(std::move(search)), sweep_(std::move(sweep)) {}
  // Of each run the steps that it still has to reach now; nothing: none (next_rung, with its RunError). A run that has failed or was ended
  // takes no part. A run's metric at a rung is read once: it does not change when the run goes on.
  std::vector<std::optional<int64_t>> next(const std::vector<SweepRow>& rows);
  // "a is the best of the search, with a loss of 2.5 after 400 steps"; "" before its end, and where no run has come to it.
  std::string outcome(const std::vector<SweepRow>& rows);
  // "rung 2 of 3" of the rung that ends with so many steps.
  std::string rung_text(int64_t steps) const;

 private:
  static std::vector<Contestant> contestants(const std::vector<SweepRow>& rows);
  // The lower the better.
  double value(const std::string& run, int64_t steps);

  SweepSearch search_;
  std::filesystem::path sweep_;
  std::map<std::pair<std::string, int64_t>, double> values_;
};

}  // namespace zerostep
