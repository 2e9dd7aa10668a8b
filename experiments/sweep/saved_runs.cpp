#include "experiments/sweep/saved_runs.h"

#include <fmt/format.h>

#include "base/first_names.h"
#include "base/format.h"

namespace zerostep {

bool is_saved_at_stop(const SweepRequest& request, size_t run) {
  return request.file.search || request.points[run].loaded.config.run.checkpoint_interval > 0;
}

std::string unsaved_runs_text(const SweepRequest& request, const std::vector<SweepRow>& rows) {
  constexpr int kLongMinutes = 5;  // shorter ones are soon made again
  std::vector<std::string> names;
  for (size_t i = 0; i < request.points.size(); ++i)
    if (rows[i].state == SweepState::Queued && request.planned[i].refusal.empty() && request.planned[i].seconds > kLongMinutes * 60.0 &&
        !is_saved_at_stop(request, i) && !request.points[i].loaded.config.run.keep_best)
      names.push_back(request.points[i].name);
  if (names.empty()) return "";
  return fmt::format(
      "warning: {} of more than {} minutes {} no checkpoints ({}): an interrupted run begins anew; set run.checkpoint_interval",
      counted(std::ssize(names), "run"), kLongMinutes, names.size() == 1 ? "makes" : "make", first_names(names));
}

std::string interrupt_text(size_t saved, size_t others) {
  if (saved + others == 0) return "interrupted";
  const std::string who = saved + others == 1 ? "the run that goes on is" : "the runs that go on are";
  std::string asked;
  if (others == 0)
    asked = who + " asked to save and stop";
  else if (saved == 0)
    asked = who + " asked to stop";
  else
    asked = fmt::format("of the runs that go on {} {} asked to save and stop, and {} to stop", saved, saved == 1 ? "is" : "are", others);
  if (others > 0)
    asked +=
        others == 1 ? "; it makes no checkpoints and begins anew at --resume" : "; they make no checkpoints and begin anew at --resume";
  return fmt::format("interrupted: {}; once more ends {} at once", asked, saved + others == 1 ? "it" : "them");
}

}  // namespace zerostep
