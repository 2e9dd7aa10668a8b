#include "fake_gpu/machine.h"

#include <cstdlib>
#include <stdexcept>
#include <utility>

namespace fake_gpu {
namespace {

thread_local int thread_device = 0;
thread_local cudaError_t thread_error = cudaSuccess;
thread_local int64_t thread_waits = 0;
constexpr const char* kWaits[] = {
    "pageable copies", "waits of pinning", "cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize", "cudaMemcpy",
    "cudaMemset",      "cudaFree"};
thread_local bool is_in_host_function = false;

int64_t number_in(const char* variable, int64_t otherwise) {
  const char* text = std::getenv(variable);
  return text == nullptr ? otherwise : std::strtoll(text, nullptr, 10);
}

// As CUDA reads CUDA_VISIBLE_DEVICES.
std::vector<int> visible_devices(const char* list, int num_devices) {
  std::vector<int> out;
  for (const char* at = list; *at != 0;) {
    char* end = nullptr;
    const long number = std::strtol(at, &end, 10);
    if (end == at || number < 0 || number >= num_devices) break;
    out.push_back(static_cast<int>(number));
    at = *end == ',' ? end + 1 : end;
  }
  return out;
}

// cudaStreamLegacy is what nullptr means.
bool is_default(cudaStream_t stream) { return stream == nullptr || stream == cudaStreamLegacy; }

}  // namespace

Settings environment_settings() {
  Settings settings;
  settings.num_devices = static_cast<int>(number_in("FAKE_GPU_DEVICES", settings.num_devices));
  if (const char* list = std::getenv("CUDA_VISIBLE_DEVICES"); list != nullptr) {
    settings.numbers = visible_devices(list, settings.num_devices);
    settings.num_devices = static_cast<int>(settings.numbers.size());
  }
  settings.memory_bytes = number_in("FAKE_GPU_MEMORY", settings.memory_bytes);
  settings.has_nccl = number_in("FAKE_GPU_NCCL", 1) != 0;
  settings.is_strict = number_in("FAKE_GPU_STRICT", 0) != 0;
  settings.jitter_microseconds = static_cast<int>(number_in("FAKE_GPU_JITTER", 0));
  settings.pinning_waits = number_in("FAKE_GPU_PINNING_WAITS", 0) != 0;
  settings.seed = static_cast<uint64_t>(number_in("FAKE_GPU_SEED", 1));
  settings.to_device_bytes_per_second = number_in("FAKE_GPU_TO_DEVICE", 0);
  settings.to_host_bytes_per_second = number_in("FAKE_GPU_TO_HOST", 0);
  settings.product_workspace_bytes = number_in("FAKE_GPU_WORKSPACE", 0);
  return settings;
}

Settings settings() { return Machine::instance().settings(); }

void configure(const Settings& settings) {
  Machine::instance().configure(settings);
  find_nccl_devices();
}
int64_t num_calls(const std::string& function) { return Machine::instance().num_counted(function); }
int64_t num_pageable_copies() { return num_calls("pageable copies"); }
int64_t num_launches() { return num_calls("cudaLaunchKernel"); }
int64_t num_host_waits() {
  int64_t sum = 0;
  for (const char* name : kWaits) sum += num_calls(name);
  return sum;
}
int64_t num_host_waits_of_this_thread() { return thread_waits; }

StandIn::StandIn(cudaStream_t stream) {
  const std::shared_ptr<WorkQueue> queue = Machine::instance().queue(stream);
  if (!queue) throw std::logic_error("a stream that does not live");
  queue->synchronize();
  Machine::instance().memory().change_access(1);
}

StandIn::~StandIn() { Machine::instance().memory().change_access(-1); }

Machine& Machine::instance() {
  static auto* const machine = new Machine;
  return *machine;
}

Machine::Machine() { configure(environment_settings()); }

void Machine::configure(const Settings& settings) {
  std::lock_guard lock(mutex_);
  if (!memory_.configure(settings.memory_bytes, settings.is_strict)) throw std::logic_error("device memory is still allocated");
  settings_ = settings;
  counts_.clear();
  for (const auto& [device, queue] : default_queues_) queue->close();
  default_queues_.clear();
  num_queues_ = 0;
}

std::shared_ptr<WorkQueue> Machine::default_queue(int device) {
  std::shared_ptr<WorkQueue>& queue = default_queues_[device];
  if (!queue) queue = WorkQueue::start(device, settings_.jitter_microseconds, settings_.seed + ++num_queues_);
  return queue;
}

std::shared_ptr<WorkQueue> Machine::queue(cudaStream_t stream) {
  std::lock_guard lock(mutex_);
  if (is_default(stream)) return default_queue(current_device());
  const auto found = queues_.find(stream);
  return found == queues_.end() ? nullptr : found->second;
}

cudaStream_t Machine::add_queue(int device) {
  std::lock_guard lock(mutex_);
  // Handles are numbers that no address has.
  const auto stream = reinterpret_cast<cudaStream_t>(uintptr_t{0x1000} + 16 * ++handles_);
  queues_[stream] = WorkQueue::start(device, settings_.jitter_microseconds, settings_.seed + ++num_queues_);
  return stream;
}

bool Machine::remove_queue(cudaStream_t stream) {
  std::lock_guard lock(mutex_);
  const auto found = queues_.find(stream);
  if (found == queues_.end()) return false;
  found->second->close();
  queues_.erase(found);
  return true;
}

void Machine::synchronize(int device) {
  std::vector<std::shared_ptr<WorkQueue>> queues;
  {
    std::lock_guard lock(mutex_);
    queues.push_back(default_queue(device));
    for (const auto& [stream, queue] : queues_)
      if (queue->device() == device) queues.push_back(queue);
  }
  for (const auto& queue : queues) queue->synchronize();
}

cudaEvent_t Machine::add_event(EventState state) {
  std::lock_guard lock(mutex_);
  const auto event = reinterpret_cast<cudaEvent_t>(uintptr_t{0x1000} + 16 * ++handles_);
  events_[event] = std::move(state);
  return event;
}

EventState Machine::event(cudaEvent_t event) {
  std::lock_guard lock(mutex_);
  const auto found = events_.find(event);
  return found == events_.end() ? EventState{.last = nullptr, .device = -1} : found->second;
}

bool Machine::record(cudaEvent_t event, std::shared_ptr<Mark> mark) {
  std::lock_guard lock(mutex_);
  const auto found = events_.find(event);
  if (found == events_.end()) return false;
  found->second.last = std::move(mark);
  return true;
}

bool Machine::remove_event(cudaEvent_t event) {
  std::lock_guard lock(mutex_);
  return events_.erase(event) == 1;
}

void Machine::count(const std::string& call) {
  for (const char* wait : kWaits) thread_waits += call == wait ? 1 : 0;
  std::lock_guard lock(mutex_);
  ++counts_[call];
}

int64_t Machine::num_counted(const std::string& call) {
  std::lock_guard lock(mutex_);
  return counts_[call];
}

int& current_device() { return thread_device; }

cudaError_t fail(cudaError_t error) {
  if (error != cudaSuccess) thread_error = error;
  return error;
}

cudaError_t take_last_error() { return std::exchange(thread_error, cudaSuccess); }
cudaError_t last_error() { return thread_error; }

cudaError_t enter(const char* function) {
  Machine& machine = Machine::instance();
  machine.count(function);
  if (machine.settings().num_devices == 0) return fail(cudaErrorNoDevice);
  return is_in_host_function ? fail(cudaErrorNotPermitted) : cudaSuccess;
}

void run_host_function(cudaHostFn_t function, void* data) {
  static auto* const one_at_a_time = new std::mutex;
  std::lock_guard lock(*one_at_a_time);
  is_in_host_function = true;
  function(data);
  is_in_host_function = false;
}

}  // namespace fake_gpu
