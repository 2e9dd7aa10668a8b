#include "launch/train_header.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/first_names.h"
#include "base/format.h"
#include "base/process_memory.h"
#include "launch/rank_devices.h"
#include "offload/host_optimizer.h"

namespace zerostep {
namespace {

// Collective. The tokens were there before where every rank found them: one makes them, and the others wait for its file.
DataFacts facts_of(Job& job, const DataStream& data) {
  const std::vector<std::string> made = job.gather("token cache", data.is_from_cache() ? "" : "made");
  const bool is_from_cache = std::all_of(made.begin(), made.end(), [](const std::string& text) { return text.empty(); });
  return {data.num_samples(), data.num_sample_tokens(), data.num_tokens(), is_from_cache, data.sources(), data.is_weighted()};
}
std::vector<SetFacts> facts_of(Job& job, const std::vector<EvaluationSet>& sets) {
  std::vector<SetFacts> out;
  for (const EvaluationSet& set : sets) out.push_back({sets.size() > 1 ? set.name : "", facts_of(job, *set.data)});
  return out;
}

}  // namespace

void say_header(Job& job, const TrainArguments& arguments, TrainSetup& setup) {
  RunFacts& facts = setup.facts;
  facts.device = devices_text(devices_of_ranks(job, setup.device));
  facts.host_is_device = setup.device.is_host();
  facts.communication = job.world().backend();
  facts.host_kernels = host_optimizer_target();
  facts.ranks = job.size();
  facts.local_ranks = job.local_size();
  facts.train = facts_of(job, *setup.train_data);
  facts.train.reads = setup.config().run.steps * setup.config().samples_of_step();
  if (setup.backprop_data) facts.backprop = facts_of(job, *setup.backprop_data);
  facts.evaluation = facts_of(job, setup.eval_sets);
  facts.test = facts_of(job, setup.test_sets);
  facts.folder = setup.folder.path();
  facts.saves_model = !arguments.save_model.empty();
  facts.resident_bytes = resident_memory().now;
  RunLog& log = setup.log;
  if (setup.checkpoint)
    log.line(fmt::format("goes on after step {} from {}, written by {} at stage {}", setup.first_step(), setup.checkpoint->directory(),
                         counted(setup.checkpoint->manifest().ranks, "rank"), setup.checkpoint->manifest().stage));
  std::vector<const FolderLock*> locks{&setup.folder.lock()};
  for (const FolderLock& lock : setup.monitor_locks) locks.push_back(&lock);
  for (const FolderLock* lock : locks)
    if (!lock->unlocked_because().empty())
      log.warn(fmt::format("{}. Nothing keeps a second run out of the folder: start none there", lock->unlocked_because()));
  for (const std::string& line : describe_environment()) log.line(line);
  for (const std::string& line : run_header(setup.report(), facts)) log.line(line);
  // A mistyped name is not there either.
  const std::vector<std::string> made =
      job.gather("folders that were made", fmt::format("{}", fmt::join(setup.scratch_folders.made(), ", ")));
  for (const std::string& folders : made)
    if (!folders.empty()) log.line(fmt::format("made           {}: not there before, for what rests in files", folders));
  if (!setup.first_values.untrained.empty())
    log.line(fmt::format("first values   {} (seed {}): {} {}", first_names(setup.first_values.untrained), setup.config().seed,
                         setup.config().model.path,
                         setup.config().model.fresh_classifier ? "is asked for all but its classifier" : "does not hold them"));
}

void dump_state(TrainSetup& setup) {
  RunLog& log = setup.log;
  log.line("configuration");
  log.line(setup.subject.loaded.labelled_text);
  log.line("layout");
  for (const FlatGroup& g : setup.plan->layout.groups)
    log.line(fmt::format("  {:<28} {:>14} elements, {:>14} a rank, {}{}{}", g.name, grouped(g.full_elements()), grouped(g.shard_elements()),
                         name_of(g.type), g.trainable ? "" : ", frozen", g.persistent ? ", persistent" : ""));
  log.line(plan_text(setup.report()));
}

}  // namespace zerostep
