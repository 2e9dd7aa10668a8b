#pragma once
#include <string>

namespace zerostep {

// As the system calls it; "": it does not say.
std::string processor_name();
// What decides how fast a machine computes, as far as a process sees it: the processor, what libraries may use of it, LibTorch and the
// libraries in it. The same whatever the number of ranks and threads.
std::string machine_description();

}  // namespace zerostep
