#include <dlfcn.h>

#include <filesystem>
#include <string>

#include "base/cuda/cuda_library.h"
#include "base/error.h"

namespace zerostep {
namespace {

// Beside the program, or else where the system looks for libraries.
std::string path_of_library() {
  std::error_code error;
  const std::filesystem::path beside = std::filesystem::read_symlink("/proc/self/exe", error).replace_filename(kCudaLibrary);
  return !error && std::filesystem::exists(beside, error) ? beside.string() : kCudaLibrary;
}

}  // namespace

void* function_of_cuda_library(const char* name) {
  void* library = dlopen(path_of_library().c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr)
    fail_run("a GPU needs {}, which a build for CUDA puts beside the program and which cannot be opened: {}", kCudaLibrary, dlerror());
  void* const function = dlsym(library, name);
  if (function == nullptr) fail_run("{} is of another version than the program: {}", kCudaLibrary, dlerror());
  return function;
}

Device Device::cuda(int index) {
  auto* const open = reinterpret_cast<OpenCudaDevice*>(function_of_cuda_library(kOpenCudaDevice));
  std::shared_ptr<const Impl> device;
  open(index, device);
  return Device(std::move(device));
}

}  // namespace zerostep
