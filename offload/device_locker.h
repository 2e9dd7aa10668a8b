#pragma once
#include <memory>

#include "base/device.h"
#include "offload/pinned_memory.h"

namespace zerostep {

// What pins memory of the host for a device: a GPU is told of its pages, which locks them as well. PageLocker::system() for a processor.
std::shared_ptr<PageLocker> page_locker(const Device& device);

}  // namespace zerostep
