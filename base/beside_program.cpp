#include "base/beside_program.h"

#include <dlfcn.h>

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

void* address_beside_program(const char* library, const char* name, const std::string& needs, std::string& problem) {
  void* const opened = dlopen(library_beside_program(library).c_str(), RTLD_NOW | RTLD_LOCAL);
  if (opened == nullptr) {
    problem = fmt::format("{}: {}", needs, dlerror());
    return nullptr;
  }
  void* const function = dlsym(opened, name);
  if (function == nullptr) problem = fmt::format("{} is of another version than the program: {}", library, dlerror());
  return function;
}

}  // namespace zerostep
