#pragma once
#include <cstdint>
#include <map>
#include <string>

#include "runtime/report/output_file.h"

namespace zerostep {

// DeepSpeed's csv_monitor: <output_path>/<job_name>/<name with underscores>.csv, one file a quantity, appended to, with the header
// "step,<last part of the name>".
class CsvMonitor {
 public:
  CsvMonitor() = default;  // off
  CsvMonitor(const std::string& output_path, const std::string& job_name);
  // `name` as DeepSpeed's ("Train/Samples/lr"), `step` the samples seen.
  void write(const std::string& name, int64_t step, double value);
  const std::string& folder() const { return folder_; }

 private:
  std::string folder_;  // "": off
  std::map<std::string, OutputFile> files_;
};

}  // namespace zerostep
