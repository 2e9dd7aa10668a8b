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

Device Device::cuda(int index) {
  // Never closed: what it makes outlives this call.
  void* library = dlopen(path_of_library().c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr)
    fail_run("a GPU needs {}, which a build for CUDA puts beside the program and which cannot be opened: {}", kCudaLibrary, dlerror());
  auto* const open = reinterpret_cast<decltype(&zerostep_open_cuda_device_1)>(dlsym(library, kOpenCudaDevice));
  if (open == nullptr) fail_run("{} is of another version than the program: {}", kCudaLibrary, dlerror());
  std::shared_ptr<const Impl> device;
  open(index, device);
  return Device(std::move(device));
}

}  // namespace zerostep
