#include "base/signal_name.h"

#include <fmt/format.h>

#include <cstring>

namespace zerostep {

std::string name_of_signal(int signal) {
  const char* name = ::sigabbrev_np(signal);
  return name == nullptr ? fmt::format("signal {}", signal) : fmt::format("SIG{}", name);
}

}  // namespace zerostep
