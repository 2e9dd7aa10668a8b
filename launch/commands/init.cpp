#include <fmt/format.h>

#include "base/console.h"
#include "base/first_names.h"
#include "base/format.h"
#include "launch/commands/commands.h"
#include "launch/model_directory.h"
#include "launch/model_files.h"
#include "launch/subject.h"

namespace zerostep {

int init(const InitArguments& arguments) {
  check_model_directory(arguments.directory, arguments.overwrite);
  const Subject subject = load_subject_on_one_rank(arguments);
  print_warnings(subject.loaded);
  ModelValues values = starting_values(subject);
  const ModelDirectory alone(arguments.directory, arguments.overwrite);
  const std::vector<std::string> notes =
      save_model(arguments.directory, *subject.model, origin_of(subject.config()), whole_parameters(*subject.model, values.read));
  values.notes.insert(values.notes.end(), notes.begin(), notes.end());
  for (const std::string& note : values.notes) print_err("warning: {}\n", note);
  const std::string& from = subject.config().model.path;
  if (!values.untrained.empty()) print_out("first values (seed {}): {}\n", subject.config().seed, first_names(values.untrained));
  print_out("{}: {} parameters, {}\n", arguments.directory, grouped(subject.model->num_elements()),
            from.empty() ? fmt::format("untrained, seed {}", subject.config().seed) : "from " + from);
  return kDone;
}

}  // namespace zerostep
