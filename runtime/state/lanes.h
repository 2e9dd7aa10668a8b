#pragma once
#include <array>
#include <atomic>
#include <functional>
#include <memory>
#include <string>

#include "base/device.h"
#include "base/nth.h"
#include "base/trace.h"
#include "offload/flat_kernels.h"
#include "runtime/memory/memory_meter.h"
#include "runtime/plan/lane_streams.h"
#include "runtime/state/device_times.h"
#include "sharding/communicator.h"

namespace zerostep {

// Where a rank's actions run: the streams of their lanes, what is launched there, and what watches it.
struct Lanes {
  // The kernels, which run on the device's streams, the meter and the trace (nullptr: none) must outlive the object. `times_phases`:
  // whether someone reads timers(); the work of a GPU is timed only then.
  Lanes(const Device& target, const FlatKernels& flat_kernels, Communicator ranks, const StreamsApart& apart, MemoryMeter& memory_meter,
        Trace* records, bool times_phases = true)
      : device(target),
        kernels(flat_kernels),
        group(std::move(ranks)),
        by_lane(streams_of(device, apart)),
        meter(memory_meter),
        trace(records),
        is_apart(apart) {
    if (!device.is_host() && (trace != nullptr || times_phases)) device_times = std::make_unique<DeviceTimes>(compute, trace);
    if (apart.communication) kernels.keep_to_one_thread(communication);
    if (apart.copies)
      for (const Stream& stream : {device_to_host, host_to_device}) kernels.keep_to_one_thread(stream);
  }
  Lanes(const Lanes&) = delete;
  Lanes& operator=(const Lanes&) = delete;

  Stream& stream_of(Lane lane) { return nth(by_lane, lane); }
  std::array<Stream*, 7> streams() {
    return {&compute, &communication, &file_read, &file_write, &host_compute, &device_to_host, &host_to_device};
  }
  // Lets whatever comes next on any lane come after all that is on them now. The host waits for that only where it is the device, or where
  // ranks meet on the device's way, for then nothing of theirs is under way when it goes on.
  void join() {
    if (device.is_host()) {
      for (Stream* lane : streams()) lane->synchronize();
      return;
    }
    for (Stream* lane : streams())
      if (lane->native_handle() != compute.native_handle()) compute.wait(lane->record());
    if (group.meets_on_device()) {
      compute.synchronize();
      group.note_device_waited();
      return;
    }
    group.wait_for_meetings();
    const Event all = compute.record();
    for (Stream* lane : streams())
      if (lane->native_handle() != compute.native_handle()) lane->wait(all);
  }
  // What this thread allocates while it lives counts as this rank's.
  MeterScope metered() { return MeterScope(meter, group.shares_process() ? MeterScope::Threads::Own : MeterScope::Threads::All); }
  // What this rank's tensors take on the device.
  TensorMemory tensor_memory() const {
    return device.is_host() ? TensorMemory{meter.live_bytes(), meter.peak_bytes(), meter.live_bytes()} : device.tensor_memory();
  }
  // Launches work on the compute stream, or that of another lane of the device; its tensors count as this rank's.
  Event launch(std::function<void()> work, Lane lane = Lane::Compute) {
    return stream_of(lane).launch([this, work = std::move(work)] {
      const MeterScope scope = metered();
      work();
    });
  }
  // Launches work of the host on the stream of its lane; likewise.
  Event launch_on_host(std::function<void()> work) {
    return host_compute.launch([this, work = std::move(work)] {
      const MeterScope scope(meter);
      work();
    });
  }
  // Runs `enqueue`, which puts work on the stream of a lane, and records in the trace what it takes there.
  template <typename Enqueue>
  Event traced(Lane lane, const std::string& name, Enqueue enqueue) {
    Stream& stream = stream_of(lane);
    if (stream.native_handle() == nullptr) return Trace::on_stream(trace, stream, stream_name(lane), name, enqueue);
    const DeviceTimes::Scope scope(device_times.get(), stream, nullptr, stream_name(lane), name);
    return enqueue();
  }
  // The same of collectives.
  template <typename Enqueue>
  Event communicate(const std::string& name, Enqueue enqueue) {
    return traced(Lane::Gather, name, enqueue);
  }

  // What times work while it lives: the clock of the host, and, where the lane is a stream of a GPU, marks there.
  template <typename OfHost>
  struct Timed {
    OfHost of_host;
    DeviceTimes::Scope of_device;
  };
  // A phase of the step, of those that the calling thread writes.
  Timed<TimeInto<double>> timed(StepTimers& timers, DeviceTimes::Phase phase, Lane lane = Lane::Compute) {
    return {TimeInto<double>(timers.*phase), DeviceTimes::Scope(times_on(lane), stream_of(lane), phase)};
  }
  // Work of the calling thread, for the trace.
  Timed<Trace::Scope> traced(Lane lane, const std::string& name) {
    DeviceTimes* times = times_on(lane);
    return {Trace::Scope(times == nullptr ? trace : nullptr, stream_name(lane), name),
            DeviceTimes::Scope(times, stream_of(lane), nullptr, stream_name(lane), name)};
  }
  // Seconds of the step's phases. On a GPU the rank's thread takes those in which it reads data and works on what the ranks agree on.
  StepTimers timers() const {
    if (!device_times) return host_timers + compute_timers;
    StepTimers out = device_times->timers();
    out.data = host_timers.data;
    out.scalars = host_timers.scalars;
    out.host_update = compute_timers.host_update;
    return out;
  }
  // The time of the host's own lane, which goes on beside the steps: what it has worked since the last call counts for the step that ends.
  void count_host_update() { compute_timers.host_update += host_update_seconds.exchange(0); }

  Device device;
  const FlatKernels& kernels;
  Communicator group;  // of the ranks among which state is sharded
  std::array<Stream, kLanes> by_lane;
  Stream &compute = stream_of(Lane::Compute), &communication = stream_of(Lane::Gather), &file_read = stream_of(Lane::FileRead),
         &file_write = stream_of(Lane::FileWrite), &host_compute = stream_of(Lane::HostCompute),
         &device_to_host = stream_of(Lane::DeviceToHost), &host_to_device = stream_of(Lane::HostToDevice);
  MemoryMeter& meter;
  Trace* trace;
  const StreamsApart is_apart;
  StepTimers host_timers, compute_timers;      // each written by one thread while actions run
  std::atomic<double> host_update_seconds{0};  // by the thread of the host's lane
  std::unique_ptr<DeviceTimes> device_times;   // nullptr: a processor's, or nobody asks

 private:
  DeviceTimes* times_on(Lane lane) { return stream_of(lane).native_handle() != nullptr ? device_times.get() : nullptr; }
  static std::array<Stream, kLanes> streams_of(const Device& device, const StreamsApart& apart) {
    const Stream compute = device.compute_stream();
    std::array<Stream, kLanes> out{compute, compute, compute, compute, compute, compute, compute, compute};
    for (int i = 0; i < kLanes; ++i) {
      const auto lane = static_cast<Lane>(i), named = stream_lane(lane, apart);
      const bool is_of_host = lane == Lane::FileRead || lane == Lane::FileWrite || lane == Lane::HostCompute;
      if (named != lane)
        nth(out, lane) = nth(out, named);
      else if (lane != Lane::Compute)
        nth(out, lane) = is_of_host ? device.host_stream(stream_name(lane)) : device.stream(stream_name(lane));
    }
    return out;
  }
};

}  // namespace zerostep
