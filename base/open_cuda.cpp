#include <dlfcn.h>

#include <filesystem>
#include <string>

#include "base/cuda/library.h"
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
    fail_run(
        "GPUs need {}, which cannot be opened: {}. A build makes it beside the program where a CUDA toolkit is found: launch/setup.sh "
        "--cuda "
        "brings one, launch/build.sh -DZEROSTEP_CUDA=ON names what lacks. --device cpu computes without it",
        kCudaLibrary, dlerror());
  auto* const open = reinterpret_cast<OpenCudaDevice*>(dlsym(library, kOpenCudaDevice));
  if (open == nullptr) fail_run("{} is of another version: {}. Build it with the program", kCudaLibrary, dlerror());
  std::shared_ptr<const Impl> device;
  open(index, device);
  return Device(std::move(device));
}

}  // namespace zerostep
