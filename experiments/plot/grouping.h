#pragma once
#include <string>
#include <vector>

#include "experiments/plot/canvas.h"
#include "experiments/plot/plot_run.h"

namespace zerostep {

// Which runs have one color and one label.
struct Grouping {
  std::string title;                // what tells them apart: "queries"; "" of runs that are on their own
  std::vector<std::string> labels;  // of the groups, in the order of numbers where all of them are
  std::vector<Color> colors;
  std::vector<size_t> of_run;

  const std::string& label(size_t run) const { return labels[of_run[run]]; }
  const Color& color(size_t run) const { return colors[of_run[run]]; }
};

// Each run by its name.
Grouping group_each(const std::vector<PlotRun>& runs);
// By the value of a key.
Grouping group_by_key(const std::vector<PlotRun>& runs, const std::string& path);
// By everything but the seed: as few of the keys that differ as tell the groups apart.
Grouping group_by_settings(const std::vector<PlotRun>& runs);

// As few of the keys that differ as tell the runs apart that can be told apart, those that say most first; with the seed or without.
std::vector<std::string> telling_keys(const std::vector<PlotRun>& runs, bool with_seed);

// The path of a key that is given by its last parts ("queries", "params.lr"). InputError with the nearest and those that differ where no
// run has it, or with all that it may mean.
std::string path_of_key(const std::vector<PlotRun>& runs, const std::string& text);

}  // namespace zerostep
