#include <dlfcn.h>

#include "base/beside_program.h"
#include "base/cuda/cuda_library.h"
#include "base/error.h"

namespace zerostep {
namespace {

// Never closed: what it makes outlives the call. nullptr: dlerror() says why.
void* library() { return dlopen(library_beside_program(kCudaLibrary).c_str(), RTLD_NOW | RTLD_LOCAL); }

// Whether the driver's library, without which no GPU answers, is loaded or can be: far quicker than to open ours to learn that.
bool has_driver() { return dlopen("libcuda.so.1", RTLD_LAZY | RTLD_LOCAL) != nullptr; }

}  // namespace

void* function_of_cuda_library(const char* name) {
  void* opened = library();
  if (opened == nullptr)
    fail_run("a GPU needs {}, which a build for CUDA puts beside the program and which cannot be opened: {}", kCudaLibrary, dlerror());
  void* const function = dlsym(opened, name);
  if (function == nullptr) fail_run("{} is of another version than the program: {}", kCudaLibrary, dlerror());
  return function;
}

Device Device::cuda(int index) {
  auto* const open = reinterpret_cast<OpenCudaDevice*>(function_of_cuda_library(kOpenCudaDevice));
  std::shared_ptr<const Impl> device;
  open(index, device);
  return Device(std::move(device));
}

int Device::num_gpus() {
  void* opened = has_driver() ? library() : nullptr;
  if (opened == nullptr) return 0;
  auto* const count = reinterpret_cast<CountCudaDevices*>(dlsym(opened, kCountCudaDevices));
  return count == nullptr ? 0 : count();
}

}  // namespace zerostep
