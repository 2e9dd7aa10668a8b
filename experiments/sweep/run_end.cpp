#include "experiments/sweep/run_end.h"

#include <algorithm>
#include <array>
#include <csignal>
#include <string_view>

#include "base/error.h"
#include "experiments/records/read_file.h"
#include "models/text_file.h"

namespace zerostep {
namespace {

// The last line that begins as errors do, or the last line.
std::string last_words(const std::filesystem::path& output, size_t begin) {
  constexpr std::string_view kError = "zerostep: ";
  std::string last, error;
  std::error_code ignored;
  if (!std::filesystem::is_regular_file(output, ignored)) return "";
  const std::string text = read_file(output);
  for_each_line(std::string_view(text).substr(std::min(begin, text.size())), [&](std::string_view line, int64_t) {
    if (line.starts_with(kError)) error = line.substr(kError.size());
    if (line.find_first_not_of(" \t\r") != line.npos) last = line;
  });
  return error.empty() ? last : error;
}

// Whether a status says that somebody has ended the process from outside, as the system does where memory runs out.
bool is_ended_from_outside(int status) {
  constexpr std::array kSignals{SIGINT, SIGTERM, SIGKILL, SIGHUP, SIGUSR1};
  return std::find(kSignals.begin(), kSignals.end(), status - 128) != kSignals.end();
}

}  // namespace

void judge_end(const RunEnd& end, SweepRow& row) {
  row.exit = end.status;
  row.error.clear();
  if (end.status == 0 && (end.recorded_state == RunState::Done || end.has_its_steps)) {
    row.state = SweepState::Done;
  } else if (end.status == 0 || is_ended_from_outside(end.status) || (end.was_asked_to_stop && end.recorded_state != RunState::Failed)) {
    row.state = SweepState::Interrupted;
    if (!end.was_asked_to_stop)
      row.error = end.status == 0 ? last_words(end.output, end.output_begin)
                                  : fmt::format("ended by signal {} from outside; --resume takes it up", end.status - 128);
  } else {
    row.state = SweepState::Failed;
    row.error = last_words(end.output, end.output_begin);
  }
}

}  // namespace zerostep
