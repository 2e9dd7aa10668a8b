#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "base/dtype.h"

namespace zerostep {

// Memory of one kind, taken once and handed out in parts that live as long as the arena. Parts are zeroed and aligned to 64 bytes.
class Arena {
 public:
  // Takes over `data`; `owner` keeps it alive.
  Arena(std::string name, std::shared_ptr<void> owner, void* data, int64_t num_bytes);
  // Memory of this process: mapped, in huge pages where the kernel grants them. RunError when there is not enough.
  static Arena host_memory(std::string name, int64_t num_bytes);

  // ProtocolError when the arena is too small: what it holds was planned.
  void* allocate(int64_t num_bytes, const std::string& what);
  int64_t used_bytes() const { return used_; }
  int64_t capacity_bytes() const { return capacity_; }

 private:
  std::string name_;
  std::shared_ptr<void> owner_;
  std::byte* data_;
  int64_t capacity_, used_ = 0;
};

}  // namespace zerostep
