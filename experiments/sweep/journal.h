#pragma once
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "experiments/sweep/sweep_row.h"
#include "runtime/report/output_file.h"

namespace zerostep {

// What a journal tells of one run of its sweep.
struct FormerRun {
  SweepRow row;                      // as the sweep has left it, however it ended, with the metrics of its last end
  std::vector<std::string> command;  // that it was started with the last time; none: it never was
  std::string archive;               // that `runs archive` has made of it; "": none
  // When its last process began to run, of whose end the journal does not know, as timestamps of metrics.csv; "": there is none.
  std::string runs_since;
};

// journal.jsonl of a sweep: what happened, a JSON object a line, appended only and on its way to disk before the next thing happens.
class Journal {
 public:
  static constexpr const char* kFile = "journal.jsonl";
  // What the runs of a sweep had come to, by their names. A last line that is cut, as a sweep that is killed leaves it, did not happen.
  // InputError naming any other line that is not as it was written.
  static std::map<std::string, FormerRun> read(const std::filesystem::path& file);

  // The numbers of the jobs that it has handed to Slurm. InputError as read().
  static std::vector<std::string> submitted_jobs(const std::filesystem::path& file);

  explicit Journal(const std::filesystem::path& file);
  void begin(const std::string& sweep, size_t runs, bool resumes);
  // That a run is started, with its values, its device and the seconds of its former processes; under a batch system it may wait still.
  void start(const SweepRow& row, const std::vector<std::string>& command);
  // That it runs. Gives the moment, as timestamps of metrics.csv.
  std::string running(const std::string& run);
  void end(const SweepRow& row);
  // That a run of this name is packed, and whether it is done.
  void archived(const std::string& run, const std::string& archive, bool is_done);
  void submitted(const std::string& slurm_job);
  void note(const std::string& event, const std::string& text);

 private:
  std::string append(const std::string& event, nlohmann::ordered_json more);
  OutputFile file_;
};

}  // namespace zerostep
