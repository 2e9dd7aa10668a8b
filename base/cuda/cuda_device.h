#pragma once
#include <functional>
#include <memory>
#include <mutex>
#include <string>

#include "base/cuda/cuda_context.h"
#include "base/device.h"

namespace zerostep {

// A GPU, as Device::cuda() describes it.
class CudaDevice final : public Device::Impl {
 public:
  explicit CudaDevice(int index);

  const std::string& name() const override { return context_->name(); }
  std::string model() const override;
  std::string identity() const override;
  int multiprocessors() const override;
  Stream compute_stream() const override { return compute_; }
  Stream stream(const std::string& name) const override;
  Arena memory(const std::string& name, int64_t num_bytes, MemoryKind kind) const override;
  MemoryInfo memory_info() const override;
  bool is_host() const override { return false; }
  bool holds(const void* data) const override { return type_of(data) == cudaMemoryTypeDevice; }
  bool reaches(const void* data, int64_t num_bytes) const override;
  std::shared_ptr<void> pin(void* data, int64_t num_bytes) const override;
  void load_operators() const override;
  TensorMemory tensor_memory() const override;
  void limit_tensor_memory(int64_t num_bytes) const override;
  void begin_tensor_peak() const override;
  void release_tensor_memory() const override;
  RefusedTensor refused_tensor() const override;
  Event copy(Stream& stream, void* to, const void* from, int64_t num_bytes) const override;

  CudaContext& context() const { return *context_; }
  // What another part of the library makes at the first call; it ends with the device, before its streams.
  const void* kept(const std::function<std::shared_ptr<const void>()>& make) const;

 private:
  cudaMemoryType type_of(const void* data) const;
  cudaDeviceProp properties() const;
  Arena device_memory(const std::string& name, int64_t num_bytes) const;
  Arena pinned_memory(const std::string& name, int64_t num_bytes) const;

  std::shared_ptr<CudaContext> context_;
  Stream compute_;
  mutable std::once_flag is_made_;
  mutable std::shared_ptr<const void> kept_;
};

}  // namespace zerostep
