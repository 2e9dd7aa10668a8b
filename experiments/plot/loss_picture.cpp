#include "experiments/plot/loss_picture.h"

#include "experiments/plot/draw_picture.h"
#include "experiments/plot/place_picture.h"
#include "experiments/plot/views.h"

namespace zerostep {

std::string loss_picture(const std::string& run_folder) {
  PlotInput input;
  input.x = x_axis("step");
  std::vector<RunRecord> run;
  run.push_back(read_run(run_folder));
  std::vector<std::string> notes;  // none: what is wrong with the only run is an error
  input.runs = load_runs(std::move(run), {"step", "loss", "eval_loss", "eval_loss.*"}, 1, notes);
  input.x_values.push_back(x_values(input.runs[0], input.x));
  std::optional<Picture> picture = loss_view(input);
  return picture ? svg_of(place_picture(std::move(*picture), {}), false) : "";
}

}  // namespace zerostep
