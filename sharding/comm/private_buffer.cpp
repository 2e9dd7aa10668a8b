#include "sharding/comm/private_buffer.h"

#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace zerostep {
namespace {
constexpr size_t kHugePageBytes = size_t{2} << 20;
}

PrivateBuffer::PrivateBuffer(size_t num_bytes) : num_bytes_(num_bytes) {
  const bool large = num_bytes >= 2 * kHugePageBytes;
  mapping_bytes_ = std::max<size_t>(num_bytes, 1) + (large ? kHugePageBytes : 0);
  mapping_ = mmap(nullptr, mapping_bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapping_ == MAP_FAILED) fail_run("{} bytes of memory for a buffer could not be had: {}", num_bytes, std::strerror(errno));
  auto address = reinterpret_cast<uintptr_t>(mapping_);
  if (large) {
    address = (address + kHugePageBytes - 1) / kHugePageBytes * kHugePageBytes;
    madvise(reinterpret_cast<void*>(address), num_bytes, MADV_HUGEPAGE);  // a hint
  }
  data_ = reinterpret_cast<void*>(address);
}

PrivateBuffer::~PrivateBuffer() { munmap(mapping_, mapping_bytes_); }

}  // namespace zerostep
