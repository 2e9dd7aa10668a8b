#include "experiments/sweep/run_end.h"

#include <fmt/format.h>

#include <algorithm>
#include <csignal>
#include <cstring>
#include <string_view>

#include "base/error.h"
#include "experiments/records/read_file.h"
#include "models/text_file.h"
#include "runtime/report/output_file.h"

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

// The signal that a status tells of; 0: none.
int signal_of(int status) { return status > 128 && status - 128 < NSIG ? status - 128 : 0; }

std::string name_of_signal(int signal) {
  const char* name = ::sigabbrev_np(signal);
  return name == nullptr ? fmt::format("signal {}", signal) : fmt::format("SIG{}", name);
}

// A run that is asked to stop saves and ends with such a status.
bool may_have_saved(int signal) { return signal == 0 || signal == SIGINT || signal == SIGTERM || signal == SIGUSR1; }

}  // namespace

void judge_end(const RunEnd& end, SweepRow& row) {
  const int signal = signal_of(end.status);
  const bool has_saved = end.recorded_state == RunState::Interrupted && may_have_saved(signal);
  const bool had_begun = end.recorded_state != RunState::Unknown;
  row.exit = end.status;
  row.error.clear();
  if (end.status == 0 && (end.recorded_state == RunState::Done || end.has_its_steps)) {
    row.state = SweepState::Done;
  } else if (end.was_asked_to_stop && (has_saved || end.status == 0 || !had_begun)) {
    row.state = SweepState::Interrupted;
  } else if (end.status == 0 || (signal != 0 && has_saved)) {
    row.state = SweepState::Interrupted;
    row.error = signal == 0 ? last_words(end.output, end.output_begin)
                            : fmt::format("{} from outside stopped it after a step", name_of_signal(signal));
  } else if (end.was_asked_to_stop && end.recorded_state != RunState::Failed) {
    row.state = SweepState::Killed;
    row.error = "ended by the sweep's second signal before it had saved";
  } else if (signal != 0) {
    row.state = SweepState::Killed;
    row.error = fmt::format("killed by {}{}", name_of_signal(signal),
                            signal == SIGKILL ? " from outside, as the system does where memory runs out" : "");
  } else {
    row.state = SweepState::Failed;
    row.error = last_words(end.output, end.output_begin);
  }
}

void note_kill(const SweepRow& row, const std::filesystem::path& folder) {
  const int signal = row.state == SweepState::Killed && row.exit ? signal_of(*row.exit) : 0;
  const std::filesystem::path log = folder / "log.txt";
  std::error_code error;
  if (signal == 0 || !std::filesystem::is_regular_file(std::filesystem::symlink_status(log, error))) return;
  OutputFile(log.string(), OutputFile::Mode::Append).write(fmt::format("{}{}\n", kKilledBy, name_of_signal(signal)));
}

}  // namespace zerostep
