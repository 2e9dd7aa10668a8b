#include <cuda.h>

#include <atomic>
#include <chrono>
#include <cstring>
#include <string_view>
#include <thread>

#include "fake_gpu/machine.h"

// The runtime's functions that put work on streams and wait for it.

using fake_gpu::enter;
using fake_gpu::EventState;
using fake_gpu::fail;
using fake_gpu::Machine;
using fake_gpu::Mark;

namespace {

using Queue = std::shared_ptr<fake_gpu::WorkQueue>;
using Operand = fake_gpu::DeviceMemory::Operand;

// Bytes a second of a copy's way; 0: not limited.
int64_t link_speed(const Operand& target, const Operand& source) {
  const fake_gpu::Settings& settings = Machine::instance().settings();
  const bool is_to_device = target.type == cudaMemoryTypeDevice, is_from_device = source.type == cudaMemoryTypeDevice;
  if (is_to_device == is_from_device) return 0;
  return is_to_device ? settings.to_device_bytes_per_second : settings.to_host_bytes_per_second;
}

// No link is faster than it is, and a thread that sleeps wakes up late.
void wait_until(std::chrono::steady_clock::time_point end) {
  constexpr auto kLate = std::chrono::microseconds(200);
  std::this_thread::sleep_until(end - kLate);
  while (std::chrono::steady_clock::now() < end) std::this_thread::yield();
}

cudaError_t push_copy(const Queue& queue, void* to, const void* from, size_t num_bytes, bool waits) {
  Machine& machine = Machine::instance();
  if (!queue) return fail(cudaErrorInvalidResourceHandle);
  if (num_bytes == 0) return cudaSuccess;
  const Operand target = machine.memory().operand(to, num_bytes), source = machine.memory().operand(from, num_bytes);
  if (target.bytes == nullptr || source.bytes == nullptr) return fail(cudaErrorInvalidValue);
  queue->push([target, source, num_bytes, speed = link_speed(target, source)] {
    const auto begin = std::chrono::steady_clock::now();
    std::memcpy(target.bytes, source.bytes, num_bytes);
    if (speed > 0)
      wait_until(begin + std::chrono::nanoseconds(static_cast<int64_t>(1e9 * static_cast<double>(num_bytes) / static_cast<double>(speed))));
  });
  const bool is_pageable = target.type == cudaMemoryTypeUnregistered || source.type == cudaMemoryTypeUnregistered;
  if (is_pageable && !waits) machine.count("pageable copies");
  if (is_pageable || waits) queue->synchronize();
  return cudaSuccess;
}

cudaError_t push_fill(const Queue& queue, void* to, int value, size_t num_bytes) {
  if (!queue) return fail(cudaErrorInvalidResourceHandle);
  if (num_bytes == 0) return cudaSuccess;
  const Operand target = Machine::instance().memory().operand(to, num_bytes);
  if (target.bytes == nullptr || target.type == cudaMemoryTypeUnregistered) return fail(cudaErrorInvalidValue);
  queue->push([target, value, num_bytes] { std::memset(target.bytes, value, num_bytes); });
  return cudaSuccess;
}

// The driver's function that cudaGetDriverEntryPointByVersion() gives; the host writes the word.
CUresult wait_for_value(CUstream stream, CUdeviceptr address, cuuint32_t value, unsigned flags) {
  if (enter("cuStreamWaitValue32") != cudaSuccess) return CUDA_ERROR_NOT_PERMITTED;
  const Queue queue = Machine::instance().queue(stream);
  const Operand word = Machine::instance().memory().operand(reinterpret_cast<const void*>(address), sizeof value);
  if (!queue || word.bytes == nullptr || word.type == cudaMemoryTypeUnregistered || flags != CU_STREAM_WAIT_VALUE_GEQ)
    return CUDA_ERROR_INVALID_VALUE;
  queue->push([word, value] {
    const std::atomic_ref<cuuint32_t> now(*reinterpret_cast<cuuint32_t*>(word.bytes));
    while (static_cast<int32_t>(now.load() - value) < 0) std::this_thread::sleep_for(std::chrono::microseconds(20));
  });
  return CUDA_SUCCESS;
}

}  // namespace

FAKE_GPU_API cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned flags, int) {
  if (const cudaError_t error = enter(__func__); error != cudaSuccess) return error;
  if (flags != cudaStreamNonBlocking) return fail(cudaErrorNotSupported);
  *stream = Machine::instance().add_queue(fake_gpu::current_device());
  return cudaSuccess;
}

FAKE_GPU_API cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
  return cudaStreamCreateWithPriority(stream, flags, 0);
}

FAKE_GPU_API cudaError_t cudaStreamCreate(cudaStream_t* stream) { return cudaStreamCreateWithPriority(stream, cudaStreamDefault, 0); }

FAKE_GPU_API cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  if (const cudaError_t error = enter(__func__); error != cudaSuccess) return error;
  return Machine::instance().remove_queue(stream) ? cudaSuccess : fail(cudaErrorInvalidResourceHandle);
}

FAKE_GPU_API cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  if (const cudaError_t error = enter(__func__); error != cudaSuccess) return error;
  const Queue queue = Machine::instance().queue(stream);
  if (!queue) return fail(cudaErrorInvalidResourceHandle);
  queue->synchronize();
  return cudaSuccess;
}

FAKE_GPU_API cudaError_t cudaStreamQuery(cudaStream_t stream) {
  if (const cudaError_t error = enter(__func__); error != cudaSuccess) return error;
  const Queue queue = Machine::instance().queue(stream);
  if (!queue) return fail(cudaErrorInvalidResourceHandle);
  return queue->is_idle() ? cudaSuccess : fail(cudaErrorNotReady);
}

FAKE_GPU_API cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  if (const cudaError_t error = enter(__func__); error != cudaSuccess) return error;
  const Queue queue = Machine::instance().queue(stream);
  const EventState state = Machine::instance().event(event);
  if (!queue || state.device < 0) return fail(cudaErrorInvalidResourceHandle);
  if (state.last) queue->push([mark = state.last] { mark->wait(); });
  return cudaSuccess;
}

FAKE_GPU_API cudaError_t cudaStreamIsCapturing(cudaStream_t, cudaStreamCaptureStatus* status) {
  if (const cudaError_t error = enter(__func__); error != cudaSuccess) return error;
  *status = cudaStreamCaptureStatusNone;
  return cudaSuccess;
}

FAKE_GPU_API cudaError_t cudaStreamGetCaptureInfo(cudaStream_t, cudaStreamCaptureStatus* status, unsigned long long* id, cudaGraph_t*,
                                                  const cudaGraphNode_t**, const cudaGraphEdgeData**, size_t*) {
  if (const cudaError_t error = enter(__func__); error != cudaSuccess) return error;
  *status = cudaStreamCaptureStatusNone;
  if (id != nullptr) *id = 0;
  return cudaSuccess;
}

FAKE_GPU_API cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode*) { return enter(__func__); }

FAKE_GPU_API cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags) {
  if (const cudaError_t error = enter(__func__); error != cudaSuccess) return error;
  *event = Machine::instance().add_event(
      {.last = nullptr, .device = fake_gpu::current_device(), .has_timing = (flags & cudaEventDisableTiming) == 0});
  return cudaSuccess;
}

FAKE_GPU_API cudaError_t cudaEventCreate(cudaEvent_t* event) { return cudaEventCreateWithFlags(event, cudaEventDefault); }

FAKE_GPU_API cudaError_t cudaEventDestroy(cudaEvent_t event) {
  if (const cudaError_t error = enter(__func__); error != cudaSuccess) return error;
  return Machine::instance().remove_event(event) ? cudaSuccess : fail(cudaErrorInvalidResourceHandle);
}

FAKE_GPU_API cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  if (const cudaError_t error = enter(__func__); error != cudaSuccess) return error;
  const Queue queue = Machine::instance().queue(stream);
  if (!queue || Machine::instance().event(event).device != queue->device()) return fail(cudaErrorInvalidResourceHandle);
  auto mark = std::make_shared<Mark>();
  Machine::instance().record(event, mark);
  queue->push([mark] { mark->set(); });
  return cudaSuccess;
}

FAKE_GPU_API cudaError_t cudaEventRecordWithFlags(cudaEvent_t event, cudaStream_t stream, unsigned) {
  return cudaEventRecord(event, stream);
}

FAKE_GPU_API cudaError_t cudaEventQuery(cudaEvent_t event) {
  if (const cudaError_t error = enter(__func__); error != cudaSuccess) return error;
  const EventState state = Machine::instance().event(event);
  if (state.device < 0) return fail(cudaErrorInvalidResourceHandle);
  return !state.last || state.last->is_set() ? cudaSuccess : fail(cudaErrorNotReady);
}

FAKE_GPU_API cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  if (const cudaError_t error = enter(__func__); error != cudaSuccess) return error;
  const EventState state = Machine::instance().event(event);
  if (state.device < 0) return fail(cudaErrorInvalidResourceHandle);
  if (state.last) state.last->wait();
  return cudaSuccess;
}

FAKE_GPU_API cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t begin, cudaEvent_t end) {
  if (const cudaError_t error = enter(__func__); error != cudaSuccess) return error;
  const EventState first = Machine::instance().event(begin), second = Machine::instance().event(end);
  if (!first.last || !second.last || !first.has_timing || !second.has_timing) return fail(cudaErrorInvalidResourceHandle);
  if (!first.last->is_set() || !second.last->is_set()) return fail(cudaErrorNotReady);
  *milliseconds = std::chrono::duration<float, std::milli>(second.last->time() - first.last->time()).count();
  return cudaSuccess;
}

FAKE_GPU_API cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t num_bytes, cudaMemcpyKind, cudaStream_t stream) {
  if (const cudaError_t error = enter(__func__); error != cudaSuccess) return error;
  return push_copy(Machine::instance().queue(stream), to, from, num_bytes, false);
}

FAKE_GPU_API cudaError_t cudaMemcpyPeerAsync(void* to, int, const void* from, int, size_t num_bytes, cudaStream_t stream) {
  if (const cudaError_t error = enter(__func__); error != cudaSuccess) return error;
  return push_copy(Machine::instance().queue(stream), to, from, num_bytes, false);
}

FAKE_GPU_API cudaError_t cudaMemcpy(void* to, const void* from, size_t num_bytes, cudaMemcpyKind) {
  if (const cudaError_t error = enter(__func__); error != cudaSuccess) return error;
  return push_copy(Machine::instance().queue(nullptr), to, from, num_bytes, true);
}

FAKE_GPU_API cudaError_t cudaMemsetAsync(void* to, int value, size_t num_bytes, cudaStream_t stream) {
  if (const cudaError_t error = enter(__func__); error != cudaSuccess) return error;
  return push_fill(Machine::instance().queue(stream), to, value, num_bytes);
}

FAKE_GPU_API cudaError_t cudaMemset(void* to, int value, size_t num_bytes) {
  if (const cudaError_t error = enter(__func__); error != cudaSuccess) return error;
  const Queue queue = Machine::instance().queue(nullptr);
  const cudaError_t error = push_fill(queue, to, value, num_bytes);
  if (error == cudaSuccess) queue->synchronize();
  return error;
}

FAKE_GPU_API cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function, void* data) {
  if (const cudaError_t error = enter(__func__); error != cudaSuccess) return error;
  const Queue queue = Machine::instance().queue(stream);
  if (!queue) return fail(cudaErrorInvalidResourceHandle);
  queue->push([function, data] { fake_gpu::run_host_function(function, data); });
  return cudaSuccess;
}

FAKE_GPU_API cudaError_t cudaGetDriverEntryPointByVersion(const char* symbol, void** function, unsigned, unsigned long long,
                                                          cudaDriverEntryPointQueryResult* result) {
  if (const cudaError_t error = enter(__func__); error != cudaSuccess) return error;
  const bool is_known = Machine::instance().settings().has_wait_for_value && std::string_view(symbol) == "cuStreamWaitValue32";
  *function = is_known ? reinterpret_cast<void*>(&wait_for_value) : nullptr;
  if (result != nullptr) *result = is_known ? cudaDriverEntryPointSuccess : cudaDriverEntryPointSymbolNotFound;
  return cudaSuccess;
}
