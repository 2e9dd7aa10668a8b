#include "base/console.h"
#include "base/error.h"
#include "launch/automatic.h"
#include "launch/commands/commands.h"
#include "launch/subject.h"
#include "runtime/plan/check_patterns.h"

namespace zerostep {

int show_config(const ShowConfigArguments& arguments) {
  if (arguments.keys) {
    print_out("{}", describe_keys());
    return kDone;
  }
  PlanArguments asked;
  static_cast<ConfigArguments&>(asked) = arguments;
  asked.world = arguments.world;
  try {
    asked = with_automatic(asked, target_of(asked));
  } catch (const InputError& error) {  // what follows shows the values that are there without a search
    print_err("warning: what \"auto\" stands for is not known: {}\n", error.what());
  }
  const LoadedConfig loaded = load_config({asked.file, asked.set, arguments.world});
  check_patterns(loaded.config, *model_of_names(loaded.config));
  print_warnings(loaded);
  print_out("{}", arguments.json ? loaded.resolved_json : loaded.labelled_text);
  return kDone;
}

}  // namespace zerostep
