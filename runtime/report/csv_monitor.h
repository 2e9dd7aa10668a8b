#pragma once
#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "runtime/report/output_file.h"

namespace zerostep {

// DeepSpeed's csv_monitor: <name with underscores>.csv in a folder, one file a quantity, with the header "step,<last part of the name>".
class CsvMonitor {
 public:
  // Of the run's folder, where csv_monitor.output_path names no other.
  static constexpr const char* kFolder = "csv_monitor";

  // The files of series that a run has left there.
  static std::vector<std::filesystem::path> series_in(const std::string& folder);

  CsvMonitor() = default;  // off
  // Makes the folder where it is missing. A run that goes on keeps of its files what was written up to so many samples; without `samples`
  // they begin anew, and those that are there go.
  explicit CsvMonitor(const std::string& folder, std::optional<int64_t> samples = std::nullopt);
  // `name` as DeepSpeed's ("Train/Samples/lr"), `step` the samples seen.
  void write(const std::string& name, int64_t step, double value);
  const std::string& folder() const { return folder_; }

 private:
  std::string folder_;  // "": off
  std::optional<int64_t> samples_;
  std::map<std::string, OutputFile> files_;
};

}  // namespace zerostep
