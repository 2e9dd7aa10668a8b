#include "base/cuda/cuda_device.h"

#include <c10/cuda/CUDACachingAllocator.h>
#include <cuda_runtime_api.h>
#include <dlfcn.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/cuda/cuda_library.h"
#include "base/cuda/cuda_stream.h"
#include "base/error.h"
#include "base/format.h"

namespace zerostep {
namespace {

thread_local RefusedTensor last_refused;

TensorMemory tensor_memory_of(int device) {
  const auto stats = c10::cuda::CUDACachingAllocator::getDeviceStats(static_cast<c10::DeviceIndex>(device));
  return {stats.requested_bytes[0].current, stats.requested_bytes[0].peak, stats.reserved_bytes[0].current};
}

// Of every device, once: LibTorch forgets no observer.
void observe_refusals() {
  static const bool is_attached = [] {
    c10::cuda::CUDACachingAllocator::attachOutOfMemoryObserver([](int64_t device, size_t num_bytes, size_t, size_t) {
      const TensorMemory now = tensor_memory_of(static_cast<int>(device));
      last_refused = {static_cast<int64_t>(num_bytes), now.live_bytes, now.held_bytes};
    });
    return true;
  }();
  static_cast<void>(is_attached);
}

}  // namespace

CudaDevice::CudaDevice(int index) : context_(std::make_shared<CudaContext>(index)), compute_(make_cuda_stream(context_, "compute")) {}

std::string CudaDevice::model() const { return properties().name; }

std::string CudaDevice::identity() const {
  std::string out;
  for (const char byte : properties().uuid.bytes) out += fmt::format("{:02x}", static_cast<unsigned char>(byte));
  return out;
}

int CudaDevice::multiprocessors() const { return properties().multiProcessorCount; }

cudaDeviceProp CudaDevice::properties() const {
  cudaDeviceProp out = {};
  context_->check(cudaGetDeviceProperties(&out, context_->index()), "its model is not known");
  return out;
}

Stream CudaDevice::stream(const std::string& name) const { return make_cuda_stream(context_, name); }

Arena CudaDevice::memory(const std::string& name, int64_t num_bytes, MemoryKind kind) const {
  if (num_bytes == 0) return Arena(name, nullptr, nullptr, 0);
  return kind == MemoryKind::Device ? device_memory(name, num_bytes) : pinned_memory(name, num_bytes);
}

const void* CudaDevice::kept(const std::function<std::shared_ptr<const void>()>& make) const {
  std::call_once(is_made_, [&] { kept_ = make(); });
  return kept_.get();
}

MemoryInfo CudaDevice::memory_info() const {
  context_->make_current();
  size_t free = 0, total = 0;
  context_->check(cudaMemGetInfo(&free, &total), "its free memory cannot be read");
  return {static_cast<int64_t>(free), static_cast<int64_t>(total)};
}

cudaMemoryType CudaDevice::type_of(const void* data) const {
  cudaPointerAttributes attributes = {};
  context_->check(cudaPointerGetAttributes(&attributes, data), "memory is of an unknown kind");
  return attributes.type;
}

bool CudaDevice::reaches(const void* data, int64_t num_bytes) const {
  const void* last = static_cast<const std::byte*>(data) + std::max<int64_t>(0, num_bytes - 1);
  return type_of(data) != cudaMemoryTypeUnregistered && type_of(last) != cudaMemoryTypeUnregistered;
}

std::shared_ptr<void> CudaDevice::pin(void* data, int64_t num_bytes) const {
  context_->make_current();
  context_->check(cudaHostRegister(data, static_cast<size_t>(num_bytes), cudaHostRegisterPortable), "memory of the host cannot be pinned");
  return {data, [](void* p) { end_outside_host_functions([p] { cudaHostUnregister(p); }); }};
}

void CudaDevice::load_operators() const {
  // Never closed: LibTorch's registries point into it.
  if (dlopen("libtorch_cuda.so", RTLD_NOW | RTLD_GLOBAL) == nullptr)
    fail_run("LibTorch's operators for GPUs cannot be opened: {}", dlerror());
}

TensorMemory CudaDevice::tensor_memory() const { return tensor_memory_of(context_->index()); }

RefusedTensor CudaDevice::refused_tensor() const { return last_refused; }

void CudaDevice::limit_tensor_memory(int64_t num_bytes) const {
  const auto index = static_cast<c10::DeviceIndex>(context_->index());
  const auto total = static_cast<double>(memory_info().total_bytes);
  c10::cuda::CUDACachingAllocator::setMemoryFraction(std::clamp(static_cast<double>(num_bytes) / total, 0.0, 1.0), index);
  c10::cuda::CUDACachingAllocator::resetPeakStats(index);
  observe_refusals();
}

void CudaDevice::begin_tensor_peak() const {
  c10::cuda::CUDACachingAllocator::resetPeakStats(static_cast<c10::DeviceIndex>(context_->index()));
}

void CudaDevice::release_tensor_memory() const {
  context_->make_current();
  c10::cuda::CUDACachingAllocator::emptyCache();
}

Event CudaDevice::copy(Stream& stream, void* to, const void* from, int64_t num_bytes) const {
  const auto handle = static_cast<cudaStream_t>(stream.native_handle());
  if (handle == nullptr) fail_protocol("[{}] a copy is queued on stream '{}', which is none of CUDA's", name(), stream.name());
  return stream.launch([=, this] {
    context_->check(cudaMemcpyAsync(to, from, static_cast<size_t>(num_bytes), cudaMemcpyDefault, handle), "a copy cannot be queued");
  });
}

Arena CudaDevice::device_memory(const std::string& name, int64_t num_bytes) const {
  context_->make_current();
  const auto size = static_cast<size_t>(num_bytes);
  void* data = nullptr;
  const cudaError_t error = cudaMalloc(&data, size);
  if (error == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    const MemoryInfo memory = memory_info();
    const ComparedBytes bytes = compared_bytes(num_bytes, memory.free_bytes);
    fail_run("[{}] '{}' needs {} of device memory, and {} of {} are free: use less, or end programs that `nvidia-smi` shows there",
             context_->name(), name, bytes.one, bytes.other, human_bytes(memory.total_bytes));
  }
  context_->check(error, "device memory cannot be allocated");
  std::shared_ptr<void> owner(data, [context = context_](void* p) { end_outside_host_functions([context, p] { cudaFree(p); }); });
  context_->check(cudaMemset(data, 0, size), "device memory cannot be zeroed");
  context_->check(cudaStreamSynchronize(cudaStreamLegacy), "device memory cannot be zeroed");
  return Arena(name, std::move(owner), data, num_bytes);
}

Arena CudaDevice::pinned_memory(const std::string& name, int64_t num_bytes) const {
  context_->make_current();
  const auto size = static_cast<size_t>(num_bytes);
  void* data = nullptr;
  const cudaError_t error = cudaHostAlloc(&data, size, cudaHostAllocPortable);
  if (error == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    const MemoryInfo host = Device::cpu().memory_info();
    const ComparedBytes bytes = compared_bytes(num_bytes, host.free_bytes);
    fail_run("[{}] '{}' needs {} of pinned memory, which CUDA refuses; the host has {} of {} free: use less, or end other programs",
             context_->name(), name, bytes.one, bytes.other, human_bytes(host.total_bytes));
  }
  context_->check(error, "pinned memory of the host cannot be allocated");
  std::memset(data, 0, size);
  std::shared_ptr<void> owner(data, [](void* p) { end_outside_host_functions([p] { cudaFreeHost(p); }); });
  return Arena(name, std::move(owner), data, num_bytes);
}

}  // namespace zerostep

int zerostep_count_cuda_devices_6() {
  int count = 0;
  if (cudaGetDeviceCount(&count) == cudaSuccess) return count;
  cudaGetLastError();  // the next call does not tell it again
  return 0;
}

void zerostep_name_cuda_device_6(int index, std::string& model) {
  cudaDeviceProp properties = {};
  if (cudaGetDeviceProperties(&properties, index) == cudaSuccess)
    model = properties.name;
  else
    cudaGetLastError();  // the next call does not tell it again
}

void zerostep_open_cuda_device_6(int index, std::shared_ptr<const zerostep::Device::Impl>& device) {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error != cudaSuccess) {
    cudaGetLastError();
    zerostep::fail_run("no GPU answers: {} ({}). `nvidia-smi` shows GPUs and their driver, which must be one for CUDA {} or later",
                       cudaGetErrorString(error), cudaGetErrorName(error), CUDART_VERSION / 1000);
  }
  if (index < 0 || index >= count)
    zerostep::fail_run("GPU {} is asked for, and this process sees {}, numbered from 0 (CUDA_VISIBLE_DEVICES may hide others)", index,
                       count);
  device = std::make_shared<const zerostep::CudaDevice>(index);
}
