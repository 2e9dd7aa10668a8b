#pragma once
#include <string>

namespace zerostep {

// The name of this machine, "?" where it has none. Machines may share a name.
std::string host_name();

}  // namespace zerostep
