#pragma once
#include <string>
#include <vector>

#include "experiments/sweep/reasons.h"
#include "experiments/sweep/sweep_file.h"
#include "runtime/config/load_config.h"

namespace zerostep {

// The configuration that every point starts from, and its name in messages.
struct SweepBase {
  std::string name, text;
};

// One run of a sweep.
struct SweepPoint {
  // Of its folder: "mode=zo,queries=3,seed=1", of the keys that it sets and that have an effect in it. No two points have one name, and
  // none depends on the other points: a value that does not fit as it stands into the name of a folder, or is a text that reads as
  // another value, is told by a hash at the name's end.
  std::string name;
  std::string own_name;  // the same, also where a sweep goes on that has the run in a folder of another name
  KeyValues values;      // that have an effect, by path: those it sets, and what it has of the file's other keys but those of `runs` alone
  LoadedConfig loaded;   // resolved, for the ranks of the sweep
  std::vector<Setting> set;  // on the base's file: the sweep's own --set and the point's values, without run.name and run.output_dir
  std::string cache;         // the folder of its tokens: data.cache, or where that is not given what the sweep sets
};

// The values of a point as its run's config.json has them, however they are spelled: rows of runs that never began have them beside others.
KeyValues resolved_values(const SweepPoint& point);

// The points of a sweep as far as their configurations are valid.
struct ResolvedPoints {
  std::vector<SweepPoint> points;
  std::vector<SweepPoint> invalid;  // the others, which are named by their values and not resolved
  PointErrors errors;               // of these
  size_t count = 0;                 // of both
};

// Every point of a sweep: the combinations of `grid`, with those of `when` where they apply, and the single `runs` (`base` alone where
// there is neither), each repeated; points that differ only in keys without effect are one. `base` is the file of a run, `set` changes
// every point. InputError: what is wrong with the sweep itself.
ResolvedPoints resolve_points(const SweepFile& sweep, const SweepBase& base, const std::vector<Setting>& set);
// The same, where all are valid. InputError: all that is wrong with all points, by their names, in one paragraph.
std::vector<SweepPoint> points_of(const SweepFile& sweep, const SweepBase& base, const std::vector<Setting>& set);

// What tells the run of a configuration from others, as it is resolved: however a file spells it, and whatever it has printed and kept of
// it, the run is the same.
struct RunIdentity {
  std::string values;        // all that have an effect, but for the run's name, where it writes and keeps tokens, and the next
  std::string shares;        // how ranks share a batch out
  bool says_shares = false;  // the file gives them; else they follow from the number of ranks, and the batch is the same
  bool is_same(const RunIdentity& other) const {
    return values == other.values && (shares == other.shares || (!says_shares && !other.says_shares));
  }
};
RunIdentity identity_of(const LoadedConfig& loaded);

// Whether a name has the form of a pattern: * stands for any text, ? for any character.
bool matches(std::string_view name, std::string_view pattern);

}  // namespace zerostep
