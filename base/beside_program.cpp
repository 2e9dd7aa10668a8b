#include "base/beside_program.h"

#include <filesystem>

namespace zerostep {

std::string library_beside_program(const char* name) {
  std::error_code error;
  const std::filesystem::path beside = std::filesystem::read_symlink("/proc/self/exe", error).replace_filename(name);
  return !error && std::filesystem::exists(beside, error) ? beside.string() : name;
}

}  // namespace zerostep
