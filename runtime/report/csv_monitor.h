#pragma once
#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "runtime/report/output_file.h"

namespace zerostep {

// DeepSpeed's csv_monitor: <output_path>/<job_name>/<name with underscores>.csv, one file a quantity, appended to, with the header
// "step,<last part of the name>".
class CsvMonitor {
 public:
  CsvMonitor() = default;  // off
  // A run that goes on keeps of its files what was written up to so many samples; without `samples` all that is there.
  CsvMonitor(const std::string& output_path, const std::string& job_name, std::optional<int64_t> samples = std::nullopt);
  // `name` as DeepSpeed's ("Train/Samples/lr"), `step` the samples seen.
  void write(const std::string& name, int64_t step, double value);
  const std::string& folder() const { return folder_; }

 private:
  std::string folder_;  // "": off
  std::optional<int64_t> samples_;
  std::map<std::string, OutputFile> files_;
};

}  // namespace zerostep
