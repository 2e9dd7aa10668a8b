#include "runtime/memory/machine_description.h"

#include <ATen/Version.h>
#include <fmt/format.h>

#include <cstdlib>
#include <fstream>

namespace zerostep {
namespace {

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

}  // namespace

std::string processor_name() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);)
    if (const size_t at = line.find(": "); at != std::string::npos && line.starts_with("model name")) return line.substr(at + 2);
  return {};
}

std::string machine_description() {
  std::string out = fmt::format("{}|{}|{}", processor_name(), at::get_cpu_capability(), at::show_config());
  for (const char* name : {"ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "MKL_ENABLE_INSTRUCTIONS", "MKL_CBWR"})
    out += fmt::format("|{}={}", name, environment(name));
  return out;
}

}  // namespace zerostep
