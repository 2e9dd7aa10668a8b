#pragma once
#include <string>

namespace zerostep {

// $XDG_CACHE_HOME/zerostep, or in ~/.cache where that is not set or is no absolute path; "" where neither is set. It need not be there.
std::string user_cache_folder();

}  // namespace zerostep
