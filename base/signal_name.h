#pragma once
#include <string>

namespace zerostep {

// "SIGTERM"; "signal 40" of a number without a name.
std::string name_of_signal(int signal);

}  // namespace zerostep
