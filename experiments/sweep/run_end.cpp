#include "experiments/sweep/run_end.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <csignal>
#include <iterator>
#include <string>
#include <string_view>

#include "base/signal_name.h"
#include "experiments/records/read_file.h"
#include "models/text_file.h"
#include "runtime/report/output_file.h"

namespace zerostep {
namespace {

constexpr std::string_view kError = "zerostep: ";  // what errors begin with

// The last line that begins as errors do, or the last line but for the rules that mpirun draws.
std::string last_words(const std::filesystem::path& output, size_t begin) {
  std::string last, error;
  std::error_code ignored;
  if (!std::filesystem::is_regular_file(output, ignored)) return "";
  const std::string text = read_file(output);
  for_each_line(std::string_view(text).substr(std::min(begin, text.size())), [&](std::string_view line, int64_t) {
    if (line.starts_with(kError)) error = line.substr(kError.size());
    const bool is_rule = std::none_of(line.begin(), line.end(), [](unsigned char c) { return std::isalnum(c) != 0 || c >= 0x80; });
    if (!is_rule) last = line.substr(line.find_first_not_of(" \t"));
  });
  return error.empty() ? last : error;
}

// The signal that a status tells of; 0: none.
int signal_of(int status) { return status > 128 && status - 128 < NSIG ? status - 128 : 0; }

// A run that is asked to stop by such a signal saves before it ends.
bool asks_to_stop(int signal) { return signal == SIGINT || signal == SIGTERM || signal == SIGUSR1; }

// Whether the system sends it for what a program does itself.
bool is_own_fault(int signal) {
  constexpr int kFaults[] = {SIGSEGV, SIGABRT, SIGFPE, SIGBUS, SIGILL, SIGSYS, SIGTRAP};
  return std::find(std::begin(kFaults), std::end(kFaults), signal) != std::end(kFaults);
}

}  // namespace

void judge_end(const RunEnd& end, SweepRow& row) {
  const int signal = signal_of(end.status);
  const bool has_saved = end.recorded_state == RunState::Interrupted && (signal == 0 || asks_to_stop(signal));
  const bool had_begun = end.recorded_state.has_value();
  row.exit = end.status;
  row.error.clear();
  if (end.status == 0 && (end.recorded_state == RunState::Done || end.has_its_steps)) {
    row.state = SweepState::Done;
  } else if (is_own_fault(signal)) {
    const std::string words = last_words(end.output, end.output_begin);
    row.state = SweepState::Failed;
    row.error = fmt::format("ended by {}{}{}", name_of_signal(signal), words.empty() ? "" : ": ", words);
  } else if (end.was_asked_to_stop && (has_saved || end.status == 0 || !had_begun || signal == SIGUSR1)) {
    // SIGUSR1 is how a sweep asks first: it ends a run that is not so far yet that it saves.
    row.state = SweepState::Interrupted;
  } else if (end.status == 0) {
    row.state = SweepState::Interrupted;
    row.error = last_words(end.output, end.output_begin);
  } else if (asks_to_stop(signal) && (has_saved || !had_begun)) {
    row.state = SweepState::Interrupted;
    row.error = fmt::format("{} from outside stopped it {}", name_of_signal(signal), has_saved ? "after a step" : "before its first step");
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

void note_interrupt(const SweepRow& row, const std::filesystem::path& folder) {
  const std::filesystem::path log = folder / "log.txt";
  std::error_code error;
  if (row.state != SweepState::Interrupted || !std::filesystem::is_regular_file(std::filesystem::symlink_status(log, error))) return;
  OutputFile(log.string(), OutputFile::Mode::Append).write(fmt::format("{}\n", kSweepInterrupted));
}

void note_signal(const SweepRow& row, const std::filesystem::path& folder) {
  const int signal = row.exit ? signal_of(*row.exit) : 0;
  const bool is_killed = signal != 0 && row.state == SweepState::Killed,
             has_failed = is_own_fault(signal) && row.state == SweepState::Failed;
  const std::filesystem::path log = folder / "log.txt";
  std::error_code error;
  if ((!is_killed && !has_failed) || !std::filesystem::is_regular_file(std::filesystem::symlink_status(log, error))) return;
  OutputFile(log.string(), OutputFile::Mode::Append)
      .write(is_killed ? fmt::format("{}{}\n", kKilledBy, name_of_signal(signal)) : fmt::format("{}{}\n", kError, row.error));
}

}  // namespace zerostep
