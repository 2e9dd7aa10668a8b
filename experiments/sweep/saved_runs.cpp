#include "experiments/sweep/saved_runs.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/first_names.h"
#include "base/format.h"
#include "experiments/sweep/train_command.h"

namespace zerostep {

AfterStop after_stop(const SweepRequest& request, size_t run) {
  if (checkpoint_interval(request, run) > 0) return AfterStop::GoesOn;
  return request.points[run].loaded.config.run.keep_best ? AfterStop::GoesBack : AfterStop::BeginsAnew;
}

std::string unsaved_runs_text(const SweepRequest& request, const std::vector<SweepRow>& rows) {
  constexpr int kLongMinutes = 5;  // shorter ones are soon made again
  std::vector<std::string> names;
  for (size_t i = 0; i < request.points.size(); ++i)
    if (rows[i].state == SweepState::Queued && request.planned[i].refusal.empty() && request.planned[i].seconds > kLongMinutes * 60.0 &&
        after_stop(request, i) == AfterStop::BeginsAnew)
      names.push_back(request.points[i].name);
  if (names.empty()) return "";
  return fmt::format(
      "warning: {} of more than {} minutes {} no checkpoints ({}): an interrupted run begins anew; set run.checkpoint_interval",
      counted(std::ssize(names), "run"), kLongMinutes, names.size() == 1 ? "makes" : "make", first_names(names));
}

std::string interrupt_text(const std::vector<AfterStop>& runs) {
  if (runs.empty()) return "interrupted";
  const auto count = [&](AfterStop what) { return std::count(runs.begin(), runs.end(), what); };
  const int64_t saved = count(AfterStop::GoesOn), back = count(AfterStop::GoesBack), anew = count(AfterStop::BeginsAnew);
  const std::string who = runs.size() == 1 ? "the run that goes on is" : "the runs that go on are";
  std::string text;
  if (back + anew == 0)
    text = who + " asked to save and stop";
  else if (saved == 0)
    text = who + " asked to stop";
  else
    text =
        fmt::format("of the runs that go on {} {} asked to save and stop, and {} to stop", saved, saved == 1 ? "is" : "are", back + anew);
  if (back > 0)
    text += fmt::format("; {} back at --resume to the checkpoint of {} best evaluation, or {} anew where there was none",
                        anew > 0    ? fmt::format("{} {}", back, back == 1 ? "goes" : "go")
                        : back == 1 ? "it goes"
                                    : "they go",
                        back == 1 ? "its" : "their", back == 1 ? "begins" : "begin");
  if (anew > 0)
    text += fmt::format("; {} no checkpoints and {} anew at --resume",
                        back > 0    ? fmt::format("{} {}", anew, anew == 1 ? "makes" : "make")
                        : anew == 1 ? "it makes"
                                    : "they make",
                        anew == 1 ? "begins" : "begin");
  return fmt::format("interrupted: {}; once more ends {} at once", text, runs.size() == 1 ? "it" : "them");
}

}  // namespace zerostep
