#pragma once
#include <string>
#include <vector>

#include "experiments/plot/plot_run.h"
#include "experiments/report/summary.h"
#include "experiments/report/sweep_question.h"

namespace zerostep {

struct Report {
  std::string title;
  std::string asked;  // the command
  std::string made;   // when
  std::vector<SweepQuestion> questions;
  std::vector<std::string> notes;
  // Each picture as SVG for a wide page and for a narrow one.
  struct Figure {
    std::string name, title, wide, narrow;
  };
  std::vector<Figure> figures;
};

// One HTML page that loads nothing: what was asked, the runs in a table that can be sorted, the best of them, the keys that differ, the
// time to a common loss, failures, memory against plan, and the pictures, whose values show under a pointer.
std::string report_html(const Report& report, const Summary& summary);

}  // namespace zerostep
