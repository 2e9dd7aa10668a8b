#include "runtime/report/csv_monitor.h"

#include <fmt/format.h>

#include <charconv>
#include <filesystem>
#include <fstream>

#include "base/error.h"
#include "base/format.h"

namespace zerostep {

namespace {

// Whether a file is one of a monitor's: others in the folder are not ours to remove.
bool is_series(const std::filesystem::path& path) {
  const std::string name = path.filename().string();
  if (!name.starts_with("Train_") || path.extension() != ".csv") return false;
  std::error_code error;
  if (!std::filesystem::is_regular_file(path, error)) return false;
  std::ifstream in(path);
  std::string header;
  return std::getline(in, header) && header.starts_with("step,") && path.stem().string().ends_with(header.substr(5));
}

}  // namespace

std::vector<std::filesystem::path> CsvMonitor::series_in(const std::string& folder) {
  std::vector<std::filesystem::path> out;
  std::error_code error;
  for (const std::filesystem::directory_entry& entry : std::filesystem::directory_iterator(folder, error))
    if (is_series(entry.path())) out.push_back(entry.path());
  return out;
}

CsvMonitor::CsvMonitor(const std::string& folder, std::optional<int64_t> samples) : folder_(folder), samples_(samples) {
  std::error_code error;
  std::filesystem::create_directories(folder_, error);
  if (error) fail_run("csv_monitor: cannot make the folder {}: {}", folder_, error.message());
  if (samples_) return;
  for (const std::filesystem::path& path : series_in(folder_))
    if (!std::filesystem::remove(path, error) && error)
      fail_run("csv_monitor: cannot remove {} of a former run: {}", path.string(), error.message());
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
