#pragma once
#include <filesystem>
#include <optional>

#include "experiments/records/run_record.h"
#include "experiments/sweep/sweep_row.h"

namespace zerostep {

// What is known of a run whose process has ended.
struct RunEnd {
  int status = 0;                          // exit status, or 128 + signal
  std::optional<RunState> recorded_state;  // as its folder tells; nothing: it has left no metrics.csv yet
  bool has_its_steps = false;              // a run of a search ends before the last step of its file
  bool was_asked_to_stop = false;          // by an interrupt of the sweep
  std::filesystem::path output = {};       // what it has said
  size_t output_begin = 0;                 // from this byte on
};

// Into the row: whether the run is done, has failed, was stopped or killed, its exit status, and why it is not done.
void judge_end(const RunEnd& end, SweepRow& row);
// Of a run that a signal has ended, from outside or for a fault of its own: its log gets the line that it could not write itself, by which
// whoever reads its folder knows.
void note_signal(const SweepRow& row, const std::filesystem::path& folder);
// Of a run that its sweep has asked to stop: its log gets the line that says so beside the signal by which it was asked.
void note_interrupt(const SweepRow& row, const std::filesystem::path& folder);

}  // namespace zerostep
