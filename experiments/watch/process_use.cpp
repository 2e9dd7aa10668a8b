#include "experiments/watch/process_use.h"

#include <unistd.h>

#include <charconv>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <sstream>
#include <string_view>

#include "base/host_name.h"

namespace zerostep {
namespace {

std::string content_of(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

// The job that mpirun has started a process in; "": none, or the process is another user's.
std::string job_of(int process) {
  constexpr std::string_view kName = "PMIX_NAMESPACE=";
  const std::string variables = content_of("/proc/" + std::to_string(process) + "/environ");
  for (size_t at = 0; at < variables.size(); at = variables.find('\0', at) + 1) {
    const std::string_view variable(variables.c_str() + at);
    if (variable.starts_with(kName)) return std::string(variable.substr(kName.size()));
    if (variables.find('\0', at) == variables.npos) break;
  }
  return "";
}

}  // namespace

std::vector<int> processes_of(const std::string& owner) {
  constexpr std::string_view kProcess = "process ", kOn = " on ";
  int first = 0;
  if (!owner.starts_with(kProcess)) return {};
  const auto [end, error] = std::from_chars(owner.data() + kProcess.size(), owner.data() + owner.size(), first);
  const std::string_view rest(end, static_cast<size_t>(owner.data() + owner.size() - end));
  if (error != std::errc() || !rest.starts_with(kOn) || rest.substr(kOn.size(), rest.find(',') - kOn.size()) != host_name()) return {};
  std::vector<int> out{first};
  const std::string job = job_of(first);
  if (job.empty()) return out;
  std::error_code ignored;
  for (const std::filesystem::directory_entry& entry : std::filesystem::directory_iterator("/proc", ignored)) {
    const std::string name = entry.path().filename().string();
    int process = 0;
    const auto [stop, no_number] = std::from_chars(name.data(), name.data() + name.size(), process);
    if (no_number == std::errc() && stop == name.data() + name.size() && process != first && job_of(process) == job) out.push_back(process);
  }
  return out;
}

ProcessUse use_of(const std::vector<int>& processes) {
  static const double kTicks = static_cast<double>(::sysconf(_SC_CLK_TCK)), kPage = static_cast<double>(::sysconf(_SC_PAGESIZE));
  ProcessUse out;
  for (int process : processes) {
    const std::string stat = content_of("/proc/" + std::to_string(process) + "/stat");
    // The second field is the program's name in brackets, which may hold anything; the state follows, field 3.
    const size_t name_end = stat.rfind(')');
    if (name_end == stat.npos) continue;
    std::istringstream fields(stat.substr(name_end + 1));
    std::vector<std::string> values(std::istream_iterator<std::string>(fields), {});
    constexpr size_t kThird = 3, kUser = 14, kSystem = 15, kResident = 24;
    if (values.size() <= kResident - kThird || values.front() == "Z") continue;
    const auto number = [&](size_t field) { return std::stod(values[field - kThird]); };
    ++out.processes;
    out.cpu_seconds += (number(kUser) + number(kSystem)) / kTicks;
    out.resident_bytes += static_cast<int64_t>(number(kResident) * kPage);
  }
  return out;
}

}  // namespace zerostep
