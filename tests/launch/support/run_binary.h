#pragma once
#include <sys/types.h>

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "tests/support/expect_says.h"
#include "tests/support/scratch_folder.h"

namespace zerostep::testing {

// The program under test (environment ZEROSTEP_BINARY), as its messages call it.
std::string program();

struct Outcome {
  int status = -1;  // exit status, or 128 + signal where a signal ended it
  std::string out, err;
  double seconds = 0;
  bool timed_out = false;  // the test's own timeout ended it
};

struct How {
  int ranks = 1;
  std::map<std::string, std::string> environment = {};
  std::vector<std::string> without = {};  // variables that it does not see
  double timeout_seconds = 60;
};

// For a job whose ranks are killed or end by themselves: mpirun, which waits a second after each of the two signals that it ends the others
// with, also where none is left, does not wait.
inline const std::map<std::string, std::string> kNoGrace{{"OMPI_MCA_odls_base_sigkill_timeout", "0"}};

// The program under test as a user runs it, in a folder of its own that goes with the object. A fork of this process runs it where that
// makes no difference, or the binary does. It has one thread, and what it measures of this machine is kept for the other programs of this
// process alone ($XDG_CACHE_HOME), unless the case's environment says otherwise.
class Workplace {
 public:
  Workplace();
  std::string path(const std::string& name) const { return scratch_.path(name); }
  void write(const std::string& name, const std::string& text) const;
  std::string read(const std::string& name) const;
  bool exists(const std::string& name) const { return std::filesystem::exists(path(name)); }

  // A small model over a text of our own; `more` are members that end the file's outer block.
  std::string config(const std::string& more = "") const;

  // Both with kNoGrace, where mpirun is what starts.
  Outcome run(const std::vector<std::string>& arguments, const How& how = {}) const;
  // `before`: what comes in front of the program ("mpirun", ...).
  Outcome run_command(const std::vector<std::string>& command, const How& how = {}) const;
  pid_t start(const std::vector<std::string>& arguments, const How& how = {}) const;
  // Waits; kills it after the timeout.
  Outcome finish(pid_t pid, double timeout_seconds = 60) const;
  std::vector<std::string> command(const std::vector<std::string>& arguments, int ranks) const;

  // metrics.csv of a run below "runs": rows by column.
  std::vector<std::map<std::string, std::string>> metrics(const std::string& run) const;
  // The numbers of one column, where there are any.
  std::vector<double> column(const std::string& run, const std::string& name) const;
  // Waits until a run has so many rows; false when `pid` ended or 30 s went by.
  bool wait_for_rows(const std::string& run, size_t rows, pid_t pid) const;

 private:
  ScratchFolder scratch_;
};

std::vector<pid_t> children_of(pid_t pid);
size_t count(const std::string& text, const std::string& part);

}  // namespace zerostep::testing
