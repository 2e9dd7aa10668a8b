#pragma once
#include <array>
#include <functional>
#include <string>

#include "base/device.h"
#include "base/trace.h"
#include "offload/flat_kernels.h"
#include "runtime/memory/memory_meter.h"
#include "runtime/plan/action.h"
#include "runtime/state/step_timers.h"
#include "sharding/communicator.h"

namespace zerostep {

// Where a rank's actions run: the streams of their lanes, what is launched there, and what watches it.
struct Lanes {
  // What has streams of its own, and does not share the compute stream: collectives, reads and writes of files, the host's updates, copies
  // of checkpoints.
  struct Apart {
    bool communication = false, files = false, host_compute = false, checkpoints = false;
  };
  // The kernels, which run on the device's streams, the meter and the trace (nullptr: none) must outlive the object.
  Lanes(const Device& target, const FlatKernels& flat_kernels, Communicator ranks, const Apart& apart, MemoryMeter& memory_meter,
        Trace* records)
      : device(target),
        kernels(flat_kernels),
        group(std::move(ranks)),
        compute(device.compute_stream()),
        communication(apart.communication ? device.stream(stream_name(Lane::Gather)) : compute),
        file_read(apart.files ? device.host_stream(stream_name(Lane::FileRead)) : compute),
        file_write(apart.files ? device.host_stream(stream_name(Lane::FileWrite)) : compute),
        host_compute(apart.host_compute ? device.host_stream(stream_name(Lane::HostCompute)) : compute),
        device_to_host(apart.checkpoints ? device.stream(stream_name(Lane::DeviceToHost)) : compute),
        host_to_device(apart.checkpoints ? device.stream(stream_name(Lane::HostToDevice)) : compute),
        meter(memory_meter),
        trace(records),
        is_apart(apart) {
    if (apart.communication) kernels.keep_to_one_thread(communication);
    if (apart.checkpoints)
      for (const Stream& copies : {device_to_host, host_to_device}) kernels.keep_to_one_thread(copies);
  }

  Stream& stream_of(Lane lane) {
    switch (lane) {
      case Lane::Compute:
        return compute;
      case Lane::Gather:
      case Lane::Reduce:
        return communication;
      case Lane::FileRead:
        return file_read;
      case Lane::FileWrite:
        return file_write;
      case Lane::HostCompute:
        return host_compute;
      case Lane::DeviceToHost:
        return device_to_host;
      case Lane::HostToDevice:
        return host_to_device;
    }
    return compute;
  }
  std::array<Stream*, 7> streams() {
    return {&compute, &communication, &file_read, &file_write, &host_compute, &device_to_host, &host_to_device};
  }
  // What this thread allocates while it lives counts as this rank's.
  MeterScope metered() { return MeterScope(meter, group.shares_process() ? MeterScope::Threads::Own : MeterScope::Threads::All); }
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
  Stream compute, communication, file_read, file_write, host_compute, device_to_host, host_to_device;
  MemoryMeter& meter;
  Trace* trace;
  const Apart is_apart;
  StepTimers host_timers, compute_timers;  // each written by one thread while actions run
};

}  // namespace zerostep
