#pragma once
#include <sched.h>

#include <vector>

namespace zerostep {

// Cores of this machine by their numbers, however many it has: a cpu_set_t alone ends at 1,024.
class CoreSet {
 public:
  explicit CoreSet(const std::vector<int>& cores);
  // The numbers of the cores that this process may use, in rising order. RunError: the system does not say.
  static std::vector<int> of_process();
  // Binds the calling thread to them. Makes one system call alone, as is allowed between fork() and exec(). False: none of them is there.
  bool bind_thread() const noexcept;

 private:
  std::vector<cpu_set_t> parts_;  // one after the other, as the system reads them
};

}  // namespace zerostep
