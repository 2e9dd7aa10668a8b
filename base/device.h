#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "base/arena.h"
#include "base/stream.h"

namespace zerostep {

enum class MemoryKind : uint8_t {
  Device,      // what the device computes on
  PinnedHost,  // the host's, which the device copies from and to by itself
};

struct MemoryInfo {
  int64_t free_bytes, total_bytes;
};

// Of LibTorch's tensors on a device, in this process.
struct TensorMemory {
  int64_t live_bytes = 0, peak_bytes = 0;
  int64_t held_bytes = 0;  // live ones, and what LibTorch keeps to give to the next ones
};

// A tensor for which there was no memory, and what there was of others then.
struct RefusedTensor {
  int64_t num_bytes = 0, live_bytes = 0, held_bytes = 0;
};

// What a rank computes on: where its work is queued and where its memory comes from. A value handle over one backend.
class Device {
 public:
  class Impl {
   public:
    virtual ~Impl() = default;
    virtual const std::string& name() const = 0;
    virtual std::string model() const { return ""; }
    virtual std::string identity() const { return name(); }
    virtual int multiprocessors() const { return 0; }
    virtual Stream compute_stream() const = 0;
    virtual Stream stream(const std::string& name) const = 0;
    virtual Stream host_stream(const std::string& name) const { return Stream::worker(name); }
    virtual Arena memory(const std::string& name, int64_t num_bytes, MemoryKind kind) const = 0;
    virtual MemoryInfo memory_info() const = 0;
    virtual bool is_host() const { return true; }
    virtual bool holds(const void*) const { return false; }
    virtual bool reaches(const void*, int64_t) const { return true; }
    virtual std::shared_ptr<void> pin(void*, int64_t) const { return nullptr; }
    virtual void load_operators() const {}
    virtual TensorMemory tensor_memory() const { return {}; }
    virtual void limit_tensor_memory(int64_t) const {}
    virtual void begin_tensor_peak() const {}
    virtual void release_tensor_memory() const {}
    virtual RefusedTensor refused_tensor() const { return {}; }
    virtual Event copy(Stream& stream, void* to, const void* from, int64_t num_bytes) const = 0;
  };
  explicit Device(std::shared_ptr<const Impl> impl) : impl_(std::move(impl)) {}
  // This machine's processor. Its compute stream is the caller itself, so what is enqueued there is done when enqueue() returns; other
  // streams are threads. Its memory is of one kind.
  static Device cpu();
  // A GPU of this machine by its number. Opens libzerostep_cuda.so, which lies beside the program. Its compute stream is a stream of CUDA's
  // like the others, and work launched there finds it as LibTorch's current one. Calls that allocate or launch leave the GPU the calling
  // thread's current device. RunError that says what is missing: the library or what it loads, a driver that answers, or a GPU of this
  // number. What to do about it depends on the program, so the caller adds it.
  static Device cuda(int index);
  // Whether libzerostep_cuda.so is there, loads and is of this version: cuda() then fails for another reason.
  static bool has_cuda_library();
  // How many GPUs answer here; 0 without libzerostep_cuda.so or a driver, neither of which is looked for further. Quick where there are
  // none.
  static int num_gpus();
  // The model() of one of them by its number, without taking any of its memory, as cuda() does; "": it does not answer.
  static std::string gpu_model(int index);

  // As LibTorch calls it ("cpu", "cuda:0").
  const std::string& name() const { return impl_->name(); }
  // Of a GPU ("NVIDIA H200"); "" of a processor.
  std::string model() const { return impl_->model(); }
  // What no other device of the host has, whatever names the processes that see it give it.
  std::string identity() const { return impl_->identity(); }
  // Of a GPU how many it has; 0 of a processor.
  int multiprocessors() const { return impl_->multiprocessors(); }
  // For people: a GPU with its model ("cuda:0 (NVIDIA H200)").
  std::string description() const { return model().empty() ? name() : name() + " (" + model() + ")"; }
  // Where kernels run.
  Stream compute_stream() const { return impl_->compute_stream(); }
  // A stream of its own beside the compute stream; ends with its last handle.
  Stream stream(const std::string& name) const { return impl_->stream(name); }
  // A thread of the host beside the caller, for what the host does in memory and files of its own.
  Stream host_stream(const std::string& name) const { return impl_->host_stream(name); }
  // Zeroed memory. RunError when there is not enough.
  Arena memory(const std::string& name, int64_t num_bytes, MemoryKind kind = MemoryKind::Device) const {
    return impl_->memory(name, num_bytes, kind);
  }
  // What this process may still take, and what there is. On a processor the memory limits of control groups count.
  MemoryInfo memory_info() const { return impl_->memory_info(); }
  // Whether it is this machine's processor, whose memory is the host's.
  bool is_host() const { return impl_->is_host(); }
  // Whether this is memory of the device's own, which the host reaches by copies alone. Nothing is on a processor.
  bool holds(const void* data) const { return impl_->holds(data); }
  // Whether the device reads and writes this by itself: its own memory, or pinned memory of the host, by its first and its last byte.
  bool reaches(const void* data, int64_t num_bytes) const { return impl_->reaches(data, num_bytes); }
  // Tells the device of memory of the host, which it then copies from and to by itself, until the result goes. A processor need not know.
  // RunError where that cannot be.
  std::shared_ptr<void> pin(void* data, int64_t num_bytes) const { return impl_->pin(data, num_bytes); }
  // Of a GPU: opens the library of LibTorch's operators for it, once in a process, and before the first tensor there. RunError that says
  // what is missing.
  void load_operators() const { impl_->load_operators(); }
  // Of a GPU; a processor's tensors are counted by rank (runtime/memory/memory_meter.h). The peak is that since the limit was set,
  // or since begin_tensor_peak().
  TensorMemory tensor_memory() const { return impl_->tensor_memory(); }
  // From now on tensors for which LibTorch would hold more are an error of LibTorch's, which takes memory in pieces of 2 MiB, and of 20 MiB
  // for tensors of more than one: what it holds counts, filled or not. Of a GPU.
  void limit_tensor_memory(int64_t num_bytes) const { impl_->limit_tensor_memory(num_bytes); }
  // The peak of tensor_memory() begins anew. Of a GPU.
  void begin_tensor_peak() const { impl_->begin_tensor_peak(); }
  // Gives back what LibTorch holds and no tensor fills. Of a GPU.
  void release_tensor_memory() const { impl_->release_tensor_memory(); }
  // The last one that the calling thread was refused since a limit was set. Of a GPU.
  RefusedTensor refused_tensor() const { return impl_->refused_tensor(); }
  // Enqueues a copy between memory of any kinds, on a stream of this device. The operands live until it is done. Of pageable memory of the
  // host a GPU copies while the caller waits.
  Event copy(Stream& stream, void* to, const void* from, int64_t num_bytes) const { return impl_->copy(stream, to, from, num_bytes); }
  // For backends, which know their own devices.
  const std::shared_ptr<const Impl>& impl() const { return impl_; }

 private:
  std::shared_ptr<const Impl> impl_;
};

}  // namespace zerostep
