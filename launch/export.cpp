#include <fmt/format.h>

#include "base/error.h"
#include "launch/commands.h"
#include "launch/model_directory.h"
#include "launch/model_files.h"
#include "runtime/report/format.h"

namespace zerostep {

int export_checkpoint(const ExportArguments& arguments) {
  if (!is_checkpoint(arguments.checkpoint))
    fail_input("{}: is no checkpoint: it holds no manifest.json. Name one, as runs/NAME/checkpoints/step_00001000", arguments.checkpoint);
  check_model_directory(arguments.directory, arguments.overwrite);
  const SavedModel saved = open_model(arguments.checkpoint);
  make_model_directory(arguments.directory);
  const std::vector<std::string> notes =
      save_model(arguments.directory, *saved.model, saved.origin, [&](int unit, int index, std::vector<float>& out) {
        const ParameterInfo& parameter = saved.model->units()[static_cast<size_t>(unit)].parameters[static_cast<size_t>(index)];
        out.resize(static_cast<size_t>(parameter.num_elements()));
        saved.read(parameter, 0, parameter.num_elements(), out.data());
      });
  for (const std::string& note : notes) fmt::print(stderr, "warning: {}\n", note);
  fmt::print("{}: {} parameters of {}\n", arguments.directory, grouped(saved.model->num_elements()), arguments.checkpoint);
  return kDone;
}

}  // namespace zerostep
