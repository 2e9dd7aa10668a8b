#pragma once
#include <string>

namespace zerostep {

// As the system calls it; "": it does not say.
std::string processor_name();
// What decides how fast a machine computes, as far as a process sees it: the processor, what libraries may use of it, LibTorch and the
// libraries in it. The same whatever the number of ranks and threads.
std::string machine_description();
// $XDG_CACHE_HOME/zerostep, or in ~/.cache where that is not set or is no absolute path; "" where neither is set. It need not be there.
std::string user_cache_folder();

}  // namespace zerostep
