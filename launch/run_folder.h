#pragma once
#include <string>

#include "runtime/config/config.h"

namespace zerostep {

// <run.output_dir>/<run.name>, made where it is missing. `replaces`: it holds the files of a former run, which this one overwrites.
struct RunFolder {
  std::string path;
  bool replaces = false;
  std::string file(const std::string& name) const { return path + "/" + name; }
};
std::string run_folder_path(const Config& config);
// `continues`: the run goes on from a checkpoint in its own folder. InputError when the folder cannot be made or written, or holds
// checkpoints and the run does not go on from one of them.
RunFolder make_run_folder(const Config& config, bool continues);

}  // namespace zerostep
