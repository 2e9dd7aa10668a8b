#include "base/console.h"
#include "launch/commands/commands.h"
#include "launch/subject.h"
#include "runtime/plan/check_patterns.h"

namespace zerostep {

int show_config(const ShowConfigArguments& arguments) {
  if (arguments.keys) {
    print_out("{}", describe_keys());
    return kDone;
  }
  const LoadedConfig loaded = load_config({arguments.file, arguments.set, arguments.world});
  check_patterns(loaded.config, *model_of_names(loaded.config));
  print_warnings(loaded);
  print_out("{}", arguments.json ? loaded.resolved_json : loaded.labelled_text);
  return kDone;
}

}  // namespace zerostep
