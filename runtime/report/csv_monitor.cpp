#include "runtime/report/csv_monitor.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <filesystem>

#include "base/error.h"
#include "runtime/report/format.h"

namespace zerostep {

CsvMonitor::CsvMonitor(const std::string& output_path, const std::string& job_name, std::optional<int64_t> samples) : samples_(samples) {
  const std::filesystem::path folder = std::filesystem::path(output_path) / job_name;
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error)
    fail_input("csv_monitor: cannot make the folder {}: {}. Set csv_monitor.output_path to one that can be written", folder.string(),
               error.message());
  folder_ = folder.string();
}

void CsvMonitor::write(const std::string& name, int64_t step, double value) {
  if (folder_.empty()) return;
  auto it = files_.find(name);
  if (it == files_.end()) {
    std::string file = name;
    std::replace_if(
        file.begin(), file.end(), [](char c) { return c == '/' || c == ' '; }, '_');
    if (samples_)
      cut_after_last(folder_ + "/" + file + ".csv", [&](std::string_view line) {
        int64_t of = 0;  // the header has none
        std::from_chars(line.data(), line.data() + line.size(), of);
        return of <= *samples_;
      });
    it = files_.emplace(name, OutputFile(folder_ + "/" + file + ".csv", OutputFile::Mode::Append)).first;
    if (it->second.empty()) it->second.write("step," + name.substr(name.rfind('/') + 1) + "\n");
  }
  it->second.write(fmt::format("{},{}\n", step, round_trip(value)));
}

}  // namespace zerostep
