#include "launch/needed_folders.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <utility>

#include "base/error.h"
#include "base/format.h"
#include "launch/run_folder.h"
#include "runtime/engine/tier_options.h"
#include "runtime/state/store.h"

namespace zerostep {
namespace {

std::vector<ScratchDemand> demands_of(const Config& config, const TrainingPlan& plan) {
  return scratch_demands(plan.any_step().buffers, tier_options(config, 0));
}

// Whatever make() throws, with where the key that it begins with is from.
template <typename Make>
NewFolders with_source(const Config& config, const Make& make) {
  try {
    return make();
  } catch (const InputError& error) {
    const std::string text = error.what();
    fail_input("{}: {}", config.source(text.substr(0, text.find(':'))), text);
  }
}

}  // namespace

NewFolders make_scratch_folders(const Config& config, const TrainingPlan& plan, int ranks_of_host) {
  return with_source(config, [&] { return require_scratch_folders(demands_of(config, plan), ranks_of_host); });
}

std::vector<std::string> refusals_of_folders(const Config& config, const TrainingPlan& plan) {
  std::vector<std::string> out;
  const auto note = [&](const auto& check) {
    try {
      check();
    } catch (const InputError& error) {
      out.emplace_back(error.what());
    }
  };
  note([&] { check_run_folder(config); });
  note([&] { with_source(config, [&] { return try_scratch_folders(demands_of(config, plan)); }); });
  return out;
}

std::string why_no_folders(const Config& config) {
  std::vector<ScratchDemand> folders;
  for (const auto& [block, offload] :
       {std::pair("offload_param", &config.zero.offload_param), {"offload_optimizer", &config.zero.offload_optimizer}})
    for (const std::string& folder : offload->nvme_paths)
      folders.push_back({fmt::format("zero_optimization.{}.nvme_path", block), folder, 0});
  try {
    try_scratch_folders(folders);
    return "";
  } catch (const InputError& error) {
    return error.what();
  }
}

void limit_files(MemoryLimit& limit, const Config& config, const TrainingPlan& plan, int ranks_of_host) {
  const std::vector<ScratchDemand> demands = demands_of(config, plan);
  int64_t total = 0, room = 0, missing = 0;  // of a rank
  for (const ScratchDemand& demand : demands) total += demand.num_bytes;
  std::vector<std::string> all, room_of_lacking;  // disks
  bool is_known = true;
  for (const DiskDemand& disk : demands_of_disks(demands, ranks_of_host)) {
    is_known &= disk.free_bytes < INT64_MAX;
    const std::string name = fmt::format("the disk of {} {}", disk.key, disk.folder);
    const int64_t needed = disk.num_bytes / ranks_of_host, there = disk.free_bytes / ranks_of_host;
    all.push_back(name);
    if (is_known) room += there;
    if (needed <= there) continue;
    missing += needed - there;
    room_of_lacking.push_back(fmt::format("{} on {}", human_bytes(there), name));
  }
  if (all.empty() || (!is_known && missing == 0)) return;
  // A disk with room to spare has none for what another lacks.
  limit.file_bytes = missing == 0 ? room : total - missing;
  const bool some_lack = missing > 0 && room_of_lacking.size() < all.size();
  limit.file_source =
      some_lack ? fmt::format("of it only {}", fmt::join(room_of_lacking, " and ")) : fmt::format("free on {}", fmt::join(all, " and "));
  if (ranks_of_host > 1) limit.file_source += fmt::format(" for each of {} ranks", ranks_of_host);
}

}  // namespace zerostep
