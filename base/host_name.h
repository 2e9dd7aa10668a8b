#pragma once
#include <string>

namespace zerostep {

// Of this machine, for messages; "?" where it has none.
std::string host_name();

}  // namespace zerostep
