#pragma once
#include <string>
#include <vector>

#include "experiments/plot/picture.h"
#include "experiments/report/summary.h"

namespace zerostep {

// What is to be drawn, as the command `plot` takes it.
struct PlotRequest {
  std::vector<std::string> places;  // of runs, as find_runs() takes them
  std::vector<std::string> views;   // names; none: all that have something to show
  // "": over steps, and where a step of one run costs another thing than one of another, as of several modes, and no view is asked for, the
  // loss (of 24 runs at most) and its means over seconds and forward passes too.
  std::string x;
  std::vector<std::string> y;  // columns; none: what a view takes for itself
  std::string by;              // a key, or its last parts; "": what a view takes for itself
  double smooth = 0;           // in [0, 1)
  bool is_log = false;
  std::vector<std::string> formats = {"svg"};  // svg, png, pdf; none: the report and the summaries alone
  std::string out;                             // a folder; "": `plots` in the only folder that is given, or here
  PictureSize size;
  std::string command;       // as it was called, for the report
  bool is_of_sweep = false;  // a sweep's own report, which is written also where there is nothing to draw
  int threads = 1;
};

struct PlotResult {
  std::string folder;
  std::vector<std::string> files;  // that were written, by their names in the folder
  std::vector<std::string> notes;  // what was left out and why
  Summary summary;
};

// Draws the pictures, each with its data as NAME.tsv, and writes report.html, summary.csv and summary.txt. InputError: nothing is found, a
// name is not known, a column or key is not there; nothing is written then. RunError: a file cannot be written; or cairo, which png and pdf
// need, is missing, when everything else is written and the pictures are as SVG.
PlotResult plot(const PlotRequest& request);

}  // namespace zerostep
