#pragma once
#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "experiments/plot/canvas.h"
#include "experiments/plot/plot_run.h"

namespace zerostep {

constexpr size_t kNoGroup = SIZE_MAX;

// Which runs have one color and one label.
struct Grouping {
  std::string title;                // what tells them apart: "queries"; "" of runs that are on their own
  std::vector<std::string> labels;  // of the groups, in the order of numbers where all of them are
  std::vector<Color> colors;
  std::vector<size_t> of_run;  // kNoGroup of runs that are in none

  // The runs by their groups' order; without those that are in none.
  std::vector<size_t> order() const;
  const std::string& label(size_t run) const { return labels[of_run[run]]; }
  const Color& color(size_t run) const { return colors[of_run[run]]; }
};

// Each run by its name; runs that differ only in their seed have one color, that of group_by_settings(), where a palette holds as many
// colors as there are such settings.
Grouping group_each(const std::vector<PlotRun>& runs);
// By the value of a key; labels name the key too where that is asked for and the value does not say it.
Grouping group_by_key(const std::vector<PlotRun>& runs, const std::string& path, bool names_key = true);
// Of these runs alone, by their indices.
Grouping group_by_key(const std::vector<PlotRun>& runs, std::span<const size_t> among, const std::string& path, bool names_key = true);
// By everything but the seed and what is printed, drawn, written and kept of runs: as few of the keys that differ as tell the groups apart.
// Of runs of one mode all show their value of a key in which any two of them differ, but those that have none.
Grouping group_by_settings(const std::vector<PlotRun>& runs);

// As few of the keys that differ as tell the runs apart that can be told apart, those that say most first; with the seed or without.
std::vector<std::string> telling_keys(const std::vector<PlotRun>& runs, bool with_seed);
// Of runs with these values.
std::vector<std::string> telling_keys(const std::vector<RunKeys>& keys, bool with_seed);

// The end of a key's path that names it: the last part, or two where the last says little ("offload_param.device").
std::string short_key(const std::string& path);

// The path of a key that is given by its last parts ("queries", "params.lr"). InputError where no run has it, with what it may mean,
// nearest first, or else those that tell the runs apart; and where it may mean several.
std::string path_of_key(const std::vector<PlotRun>& runs, const std::string& text);

}  // namespace zerostep
