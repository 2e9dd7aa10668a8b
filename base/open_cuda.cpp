#include <dlfcn.h>

#include "base/cuda/library.h"
#include "base/error.h"

namespace zerostep {

Device Device::cuda(int index) {
  // Never closed: what it makes outlives this call.
  void* library = dlopen(kCudaLibrary, RTLD_NOW | RTLD_LOCAL);
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
