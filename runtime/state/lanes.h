#pragma once
#include <array>
#include <functional>
#include <string>

#include "base/device.h"
#include "base/nth.h"
#include "base/trace.h"
#include "offload/flat_kernels.h"
#include "runtime/memory/memory_meter.h"
#include "runtime/plan/lane_streams.h"
#include "runtime/state/step_timers.h"
#include "sharding/communicator.h"

namespace zerostep {

// Where a rank's actions run: the streams of their lanes, what is launched there, and what watches it.
struct Lanes {
  // The kernels, which run on the device's streams, the meter and the trace (nullptr: none) must outlive the object.
  Lanes(const Device& target, const FlatKernels& flat_kernels, Communicator ranks, const StreamsApart& apart, MemoryMeter& memory_meter,
        Trace* records)
      : device(target),
        kernels(flat_kernels),
        group(std::move(ranks)),
        by_lane(streams_of(device, apart)),
        meter(memory_meter),
        trace(records),
        is_apart(apart) {
    if (apart.communication) kernels.keep_to_one_thread(communication);
    if (apart.checkpoints)
      for (const Stream& copies : {device_to_host, host_to_device}) kernels.keep_to_one_thread(copies);
  }
  Lanes(const Lanes&) = delete;
  Lanes& operator=(const Lanes&) = delete;

  Stream& stream_of(Lane lane) { return nth(by_lane, lane); }
  std::array<Stream*, 7> streams() {
    return {&compute, &communication, &file_read, &file_write, &host_compute, &device_to_host, &host_to_device};
  }
  // What this thread allocates while it lives counts as this rank's.
  MeterScope metered() { return MeterScope(meter, group.shares_process() ? MeterScope::Threads::Own : MeterScope::Threads::All); }
  // The most that this rank's tensors took on the device.
  int64_t tensor_peak_bytes() const { return device.is_host() ? meter.peak_bytes() : device.tensor_memory().peak_bytes; }
  // Launches work on the compute stream, whose tensors count as this rank's.
  Event launch(std::function<void()> work) {
    return compute.launch([this, work = std::move(work)] {
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
  // Runs `enqueue`, which puts collectives on the communication stream, and records what they take there.
  template <typename Enqueue>
  Event communicate(const std::string& name, Enqueue enqueue) {
    return Trace::on_stream(trace, communication, stream_name(Lane::Gather), name, enqueue);
  }

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
  StepTimers host_timers, compute_timers;  // each written by one thread while actions run

 private:
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
