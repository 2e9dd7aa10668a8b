#include "base/process_memory.h"

#include <fstream>
#include <string>

namespace zerostep {

ResidentMemory resident_memory() {
  std::ifstream file("/proc/self/status");
  ResidentMemory out;
  for (std::string line; std::getline(file, line);) {
    const auto value = [&](const char* name, int64_t& bytes) {
      if (line.starts_with(name)) bytes = 1024 * std::stoll(line.substr(line.find(':') + 1));
    };
    value("VmHWM:", out.peak);
    value("VmRSS:", out.now);
  }
  return out;
}

}  // namespace zerostep
