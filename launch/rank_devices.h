#pragma once
#include <string>
#include <vector>

#include "base/device.h"
#include "launch/job.h"
#include "runtime/config/config.h"

namespace zerostep {

// What a rank computes on.
struct RankDevice {
  std::string host, name, model, identity;  // of the device as Device has them
};
// All of them for people: "cuda:0-3 (NVIDIA H200)", of several hosts each one's where they differ. Where ranks call several GPUs of a host
// by one name, because each sees its own alone, it is their number: "4 GPUs (NVIDIA H200)".
std::string devices_text(const std::vector<RankDevice>& ranks);
// Collective: those of the job.
std::vector<RankDevice> devices_of_ranks(Job& job, const Device& device);

// Collective. Ends all ranks with one message (InputError's status) where run.device, settled, is a GPU on some of them alone; or, on GPUs,
// where they differ in variables on which the results of products depend.
void require_same_device(Job& job, const Config& config);

}  // namespace zerostep
