#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "runtime/report/output_file.h"

namespace zerostep {

// What a forward-only step is made of: with the base weights and the run's configuration, enough to make its update again.
struct ZoLogLine {
  int64_t step = 0;
  uint64_t seed = 0;
  double epsilon = 0, lr = 0;
  std::vector<double> scalars;  // projected gradients in direction order, before any transform
  double clip_scale = 1;
  bool skipped = false;
  // LoadedConfig::update_values of the run from this step on; "": those of the line before, or, in the first line of a log, not known.
  std::string update_values;
  std::string first_values = {};  // of the run's first step: the fingerprint of the values that it began with; "": not known
};

// zo_log.jsonl: one JSON object a step, floats that read back as they were. A line from which the run has other values than before holds
// them.
class ZoLog {
 public:
  // A run that goes on at a step keeps the lines of those before it.
  ZoLog(const std::string& path, std::string update_values, int64_t first_step = 0);
  // `line` without values: the log knows when to write them.
  void append(const ZoLogLine& line);

 private:
  OutputFile file_;
  std::string new_values_;  // that the next line has to hold
};

// A whole log. InputError naming the file and the line: not such a log, a gap, a repeat, more than one seed.
std::vector<ZoLogLine> read_zo_log(const std::string& path);

}  // namespace zerostep
