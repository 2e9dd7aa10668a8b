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
  // `overlaps`: collectives have a stream of their own, else they share the compute stream. `has_files`: so do reads and writes of files.
  // The kernels, which run on the device's streams, the meter and the trace (nullptr: none) must outlive the object.
  Lanes(const Device& target, const FlatKernels& flat_kernels, Communicator ranks, bool overlaps, bool has_files, MemoryMeter& memory_meter,
        Trace* records)
      : device(target),
        kernels(flat_kernels),
        group(std::move(ranks)),
        compute(device.compute_stream()),
        communication(overlaps ? device.stream("communication") : compute),
        file_read(has_files ? Stream::worker("file read") : compute),
        file_write(has_files ? Stream::worker("file write") : compute),
        meter(memory_meter),
        trace(records) {
    if (overlaps) kernels.keep_to_one_thread(communication);
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
    }
    return compute;
  }
  std::array<Stream*, 4> streams() { return {&compute, &communication, &file_read, &file_write}; }
  // What this thread allocates while it lives counts as this rank's.
  MeterScope metered() { return MeterScope(meter, group.shares_process() ? MeterScope::Threads::Own : MeterScope::Threads::All); }
  // Launches work on the compute stream, whose tensors count as this rank's.
  Event launch(std::function<void()> work) {
    return compute.launch([this, work = std::move(work)] {
      const MeterScope scope = metered();
      work();
    });
  }
  // Runs `enqueue`, which puts collectives on the communication stream, and records what they take there.
  template <typename Enqueue>
  Event communicate(const std::string& name, Enqueue enqueue) {
    return Trace::on_stream(trace, communication, "communication", name, enqueue);
  }

  Device device;
  const FlatKernels& kernels;
  Communicator group;  // of the ranks among which state is sharded
  Stream compute, communication, file_read, file_write;
  MemoryMeter& meter;
  Trace* trace;
  StepTimers host_timers, compute_timers;  // each written by one thread while actions run
};

}  // namespace zerostep
