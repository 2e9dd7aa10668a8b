#include <nlohmann/json.hpp>

#include "base/console.h"
#include "launch/commands/commands.h"

namespace zerostep {

int plot(Job& job, PlotArguments arguments) {
  arguments.threads = job.cores();
  const PlotResult result = plot(static_cast<const PlotRequest&>(arguments));
  for (const std::string& note : result.notes) print_err("warning: {}\n", note);
  if (arguments.json) {
    print_out("{}\n", summary_json(result.summary).dump(2));
    return kDone;
  }
  if (arguments.summary) print_out(visible(summary_text(result.summary)));
  if (!arguments.summary)
    for (const std::string& file : result.files) print_out(visible(result.folder + "/" + file + "\n"));
  return kDone;
}

}  // namespace zerostep
