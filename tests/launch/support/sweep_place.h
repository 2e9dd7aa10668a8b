#pragma once
#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "tests/launch/support/run_binary.h"

namespace zerostep::testing {

// Sweeps in a workplace, in its folder "runs/many".
class SweepCommand : public ::testing::Test {
 protected:
  using Rows = std::vector<std::map<std::string, std::string>>;

  // A sweep file with these blocks, over a model whose steps take next to nothing. Its base is config.json.
  std::string file(const std::string& blocks);
  // By the binary itself: a sweep starts the program that it is.
  std::vector<std::string> command(const std::vector<std::string>& options) const;
  Outcome sweep(const std::vector<std::string>& options = {}) const;
  // One that starts no run, which a fork does in a tenth of the time.
  Outcome sweep_without_runs(std::vector<std::string> options) const;

  // runs.csv: cells by the name of the run and of the column.
  std::map<std::string, std::map<std::string, std::string>> rows() const;
  size_t count_state(const std::string& state) const;
  // Rows of metrics.csv without their times. They are compared as a whole: shown they would fill pages.
  static Rows plain(Rows rows);

  // Whether something comes to hold within half a minute.
  static bool comes(const std::function<bool()>& holds);
  // The process that runs a run of the sweep; 0: none.
  pid_t process_of(const std::string& run) const;
  // Holds a run of the sweep once it has `least` rows, so that it does not end meanwhile. Gives its process; 0: it has fewer, or all.
  pid_t hold(const std::string& run, size_t least, size_t all) const;
  // A sweep of two jobs whose first two runs are held, and no run of which is done.
  struct HeldSweep {
    pid_t sweep = 0;
    size_t steps = 0;                   // run.steps of its runs
    std::vector<std::string> options;   // it was started with, its steps among them
    std::map<std::string, pid_t> runs;  // those that are held
  };
  // Starts one and holds two of its runs when they have `least` rows. On a busy machine a run may end before it is held: the sweep is
  // stopped then and started anew with more steps.
  HeldSweep start_and_hold(const std::vector<std::string>& options, size_t least, const How& how = {}) const;
  // Interrupts it; its runs go on when they have been asked to save and stop.
  void interrupt(const HeldSweep& held) const;

  Workplace place_;
};

}  // namespace zerostep::testing
