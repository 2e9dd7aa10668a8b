#include "launch/needed_folders.h"

#include "base/error.h"
#include "launch/run_folder.h"
#include "runtime/engine/tier_options.h"
#include "runtime/state/store.h"

namespace zerostep {

NewFolders make_scratch_folders(const Config& config, const TrainingPlan& plan, int ranks_of_host) {
  try {
    return require_scratch_folders(scratch_demands(plan.any_step().buffers, tier_options(config, 0)), ranks_of_host);
  } catch (const InputError& error) {
    const std::string text = error.what();  // begins with the key
    fail_input("{}: {}", config.source(text.substr(0, text.find(':'))), text);
  }
}

std::vector<std::string> refusals_of_folders(const Config& config, const TrainingPlan& plan, int ranks_of_host) {
  std::vector<std::string> out;
  const auto note = [&](const auto& check) {
    try {
      check();
    } catch (const InputError& error) {
      out.emplace_back(error.what());
    }
  };
  note([&] { check_run_folder(config); });
  note([&] { make_scratch_folders(config, plan, ranks_of_host); });
  return out;
}

}  // namespace zerostep
