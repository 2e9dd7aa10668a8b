#pragma once
#include "runtime/plan/action.h"

namespace zerostep {

// What has streams of its own, and does not share the compute stream: collectives, reads and writes of files, the host's updates, copies of
// checkpoints and of shards between device and host.
struct StreamsApart {
  bool communication = false, files = false, host_compute = false, copies = false;
};

// The lane after which the stream is called that a lane's actions run on.
inline Lane stream_lane(Lane lane, const StreamsApart& apart) {
  switch (lane) {
    case Lane::Compute:
      break;
    case Lane::Gather:
    case Lane::Reduce:
      return apart.communication ? Lane::Gather : Lane::Compute;
    case Lane::FileRead:
    case Lane::FileWrite:
      return apart.files ? lane : Lane::Compute;
    case Lane::HostCompute:
      return apart.host_compute ? lane : Lane::Compute;
    case Lane::DeviceToHost:
    case Lane::HostToDevice:
      return apart.copies ? lane : Lane::Compute;
  }
  return Lane::Compute;
}

}  // namespace zerostep
