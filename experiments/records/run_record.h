#pragma once
#include <cstdint>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace zerostep {

enum class RunState : uint8_t {
  Running,      // a process owns its folder
  Done,         // it has all its steps, or those that it was asked for (--stop-after)
  Interrupted,  // a signal stopped it after a step
  Failed,       // it said why
  Killed,       // it ended without a word of its own
  Unknown,      // a CSV alone, or a log that cannot be read
  Queued        // a run of a sweep that has not begun: it has no folder
};
// What a line of a run's log begins with by which its sweep says that a signal has killed it; the signal's name follows.
inline constexpr std::string_view kKilledBy = "killed by ";
// The line of a run's log by which its sweep says that it asked the run to save and stop, since it was interrupted itself.
inline constexpr std::string_view kSweepInterrupted = "interrupted with its sweep";
std::string_view name_of(RunState state);  // "running", "done", ...
constexpr bool is_broken(RunState state) { return state == RunState::Failed || state == RunState::Killed; }
// Why means and rankings leave a run out: "failed", "killed" or "diverged"; "" where they do not.
std::string flaw_of(RunState state, bool has_diverged);

// What a run has left, or is leaving, in its folder: enough to name it and to tell it from others. Its steps are a MetricsTable's.
struct RunRecord {
  std::string name;               // of those that are found together no two are alike
  std::filesystem::path folder;   // "": a CSV alone
  std::filesystem::path metrics;  // its metrics.csv, or the CSV
  nlohmann::json config, plan;    // the resolved configuration and the plan; null where there is none
  RunState state = RunState::Unknown;
  // Failed: the error. Interrupted, Killed: the signal, as far as it is known, or that its sweep was interrupted. Done: that it was asked
  // for fewer steps (--stop-after), where that ended it.
  std::string why;
  std::string owner;  // Running: the process, in its own words (FolderLock::owner)
  // What is wrong with its metrics, configuration, plan or log, which are taken for missing then; "": nothing. Without its log a state is
  // Unknown.
  std::string unread;
  bool may_read_metrics = true;  // false: `unread` says why not

  // The value of a key of the configuration ("optimizer.params.lr"); null where it has none.
  const nlohmann::json& value(std::string_view path) const;
  // The planned peak of a tier, "device", "host" or "file"; NaN without a plan.
  double planned_bytes(std::string_view tier) const;
  int64_t total_steps() const;  // run.steps, or what the plan says that run.epochs are; 0: not known
};

// Whether a run has left its metrics there: the first line at least, which a run writes before its first step. A file that may not be read
// counts.
bool holds_run(const std::filesystem::path& folder);
// A file that cannot be read, or is damaged, is no error: the record says it.
RunRecord read_run(const std::filesystem::path& folder);

// The first link on the way from a place to the run's folder that was found there, the folder itself among them; "": there is none.
std::filesystem::path link_on_way(const std::filesystem::path& place, const std::filesystem::path& folder);

// Names runs by the ends of their folders' paths, or of their files' without ".csv" where that is no other's path too: as many parts as
// tell all of them apart, the same number of every folder, and of every file.
void name_runs(const std::vector<RunRecord*>& runs);
// The runs of folders, of folders of runs (down to three levels) and of CSV files, each once, named apart; those of a folder ordered by
// path. Of a folder and links to it below a place the folder counts. InputError naming the path: it is not there, or has no run, unless it
// holds one of the folders `others`, of runs that have left nothing.
std::vector<RunRecord> find_runs(const std::vector<std::string>& places, const std::vector<std::filesystem::path>& others = {});

// Every value of a configuration by its path; lists and empty blocks are values.
std::map<std::string, nlohmann::json> flat(const nlohmann::json& config);
// A value as people write it: a text without quotes, anything else as JSON.
std::string plain(const nlohmann::json& value);
// What is known of a run's keys: values by their paths.
struct RunKeys {
  std::map<std::string, std::string> values;
  bool are_all = true;  // it has no other keys; false: of others nothing is known

  // "" of a key that it lacks, or of which nothing is known.
  const std::string& value(const std::string& path) const;
  bool knows(const std::string& path) const { return are_all || values.contains(path); }
};
// The paths in whose values runs differ, in the order of their letters, but for those that say where a run writes. A key that only some of
// the runs have that are known to have it or not differs too.
std::vector<std::string> differing_keys(const std::vector<RunKeys>& runs);

}  // namespace zerostep
