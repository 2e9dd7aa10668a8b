#include "runtime/config/config.h"

#include <fmt/format.h>

#include "launch/commands.h"
#include "launch/subject.h"

namespace zerostep {

int show_config(const ShowConfigArguments& arguments) {
  if (arguments.keys) {
    fmt::print("{}", describe_keys());
    return kDone;
  }
  const LoadedConfig loaded = load_config({arguments.file, arguments.set, arguments.world});
  print_warnings(loaded);
  fmt::print("{}", arguments.json ? loaded.resolved_json : loaded.labelled_text);
  return kDone;
}

}  // namespace zerostep
