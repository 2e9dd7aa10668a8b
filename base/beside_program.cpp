#include "base/beside_program.h"

#include <filesystem>

namespace zerostep {

std::string folder_of_program() {
  std::error_code error;
  const std::filesystem::path program = std::filesystem::read_symlink("/proc/self/exe", error);
  return error ? "" : program.parent_path().string();
}

std::string library_beside_program(const char* name) {
  std::error_code error;
  const std::filesystem::path beside = std::filesystem::path(folder_of_program()) / name;
  return beside.is_absolute() && std::filesystem::exists(beside, error) ? beside.string() : name;
}

}  // namespace zerostep
