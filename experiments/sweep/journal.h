#pragma once
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "experiments/sweep/sweep_row.h"
#include "runtime/report/output_file.h"

namespace zerostep {

// journal.jsonl of a sweep: what happened, a JSON object a line, appended only and on its way to disk before the next thing happens.
class Journal {
 public:
  static constexpr const char* kFile = "journal.jsonl";
  // What the runs of a sweep had come to when it was left, however it ended.
  static std::map<std::string, SweepRow> read(const std::filesystem::path& file);

  // The numbers of the jobs that it has handed to Slurm.
  static std::vector<std::string> submitted_jobs(const std::filesystem::path& file);

  explicit Journal(const std::filesystem::path& file);
  void begin(const std::string& sweep, size_t runs, bool resumes);
  void start(const SweepRow& row, const std::vector<std::string>& command);
  void end(const SweepRow& row);
  void submitted(const std::string& slurm_job);
  void note(const std::string& event, const std::string& text);

 private:
  void append(const std::string& event, nlohmann::ordered_json more);
  OutputFile file_;
};

}  // namespace zerostep
