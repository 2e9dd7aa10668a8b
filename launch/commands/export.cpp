#include "base/console.h"
#include "base/error.h"
#include "base/format.h"
#include "launch/commands/commands.h"
#include "launch/model_directory.h"
#include "launch/model_files.h"
#include "runtime/checkpoint/manifest.h"

namespace zerostep {

int export_checkpoint(const ExportArguments& arguments) {
  const std::string checkpoint = checkpoint_named_by(arguments.checkpoint);
  if (!is_checkpoint(checkpoint))
    fail_input(
        "{}: is no checkpoint: it holds no manifest.json. Name one, as runs/NAME/checkpoints/step_00001000, or the newest, "
        "runs/NAME/checkpoints/latest",
        checkpoint);
  check_model_directory(arguments.directory, arguments.overwrite);
  const SavedModel saved = open_model(checkpoint);
  const ModelDirectory alone(arguments.directory, arguments.overwrite);
  const std::vector<std::string> notes =
      save_model(arguments.directory, *saved.model, saved.origin, whole_parameters(*saved.model, saved.read), arguments.type);
  for (const std::string& note : notes) print_err("warning: {}\n", note);
  print_out("{}: {} parameters of {}{}\n", arguments.directory, grouped(saved.model->num_elements()), checkpoint,
            arguments.type == DType::F32 ? "" : fmt::format(", rounded to {}", name_of(arguments.type)));
  return kDone;
}

}  // namespace zerostep
