#pragma once
#include <sys/wait.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <exception>
#include <functional>

#include "base/process_memory.h"

namespace zerostep::testing {

// By how many bytes a call makes the resident memory of a process grow at its most, pages of mapped files with it: of a child that makes
// the call alone, whose peak begins with it. -1 where the call throws, which says why on the standard error.
inline int64_t memory_growth_of(const std::function<void()>& call) {
  int ends[2] = {};
  if (::pipe(ends) != 0) return -1;
  std::fflush(nullptr);
  const pid_t child = ::fork();
  if (child == 0) {
    int64_t growth = -1;
    try {
      const int64_t before = resident_memory().now;
      call();
      growth = resident_memory().peak - before;
    } catch (const std::exception& error) {
      std::fprintf(stderr, "%s\n", error.what());
    }
    const bool is_told = ::write(ends[1], &growth, sizeof(growth)) == sizeof(growth);
    ::_exit(is_told ? 0 : 1);
  }
  ::close(ends[1]);
  int64_t growth = -1;
  if (::read(ends[0], &growth, sizeof(growth)) != sizeof(growth)) growth = -1;
  ::close(ends[0]);
  ::waitpid(child, nullptr, 0);
  return growth;
}

}  // namespace zerostep::testing
