#include "base/user_cache_folder.h"

#include <cstdlib>

namespace zerostep {

std::string user_cache_folder() {
  const char *cache = std::getenv("XDG_CACHE_HOME"), *home = std::getenv("HOME");
  // A relative path counts for nothing, as the XDG base directory specification has it.
  if (cache != nullptr && *cache == '/') return std::string(cache) + "/zerostep";
  return home == nullptr || *home == '\0' ? "" : std::string(home) + "/.cache/zerostep";
}

}  // namespace zerostep
