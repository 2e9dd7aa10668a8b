#pragma once
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "launch/evaluation.h"
#include "launch/job.h"
#include "launch/model_directory.h"
#include "launch/model_files.h"
#include "launch/resume.h"
#include "launch/run_folder.h"
#include "launch/subject.h"
#include "runtime/checkpoint/checkpoint_writer.h"
#include "runtime/engine/engine.h"
#include "runtime/report/clip_watch.h"
#include "runtime/report/csv_monitor.h"
#include "runtime/report/metrics.h"
#include "runtime/report/plan_report.h"
#include "runtime/report/progress.h"
#include "runtime/report/run_log.h"
#include "runtime/report/run_summary.h"
#include "runtime/report/step_breakdown.h"
#include "runtime/report/tensorboard.h"
#include "runtime/report/zo_log.h"

namespace zerostep {

// Everything that a training run needs before the engine exists.
struct TrainSetup {
  Subject subject;
  std::unique_ptr<DataStream> train_data;
  std::unique_ptr<DataStream> backprop_data;        // nullptr: backprop reads train_data
  std::vector<EvaluationSet> eval_sets, test_sets;  // empty where the file names none
  std::optional<TrainingPlan> plan;
  Device device = Device::cpu();
  PlanCost cost;
  std::optional<Prediction> prediction;  // on rank 0, where this machine was measured
  MemoryLimit limit;
  std::unique_ptr<CheckpointReader> checkpoint;  // what the run goes on from; nullptr: it starts anew
  RunFacts facts;
  NewFolders scratch_folders, other_folders;  // that go again unless the run begins
  RunFolder folder;
  ModelDirectory model_directory;         // of --save-model
  std::vector<FolderLock> monitor_locks;  // of csv_monitor.output_path and tensorboard.output_path
  RunLog log;
  const Config& config() const { return subject.config(); }
  ModelValues first_values;              // of a run that starts anew
  std::string first_values_fingerprint;  // of a run that starts anew and that its log can rebuild, on rank 0; else ""
  int64_t stop_after = 0;                // as TrainArguments
  bool continues = false;                // it lies in the folder of the run, whose files go on
  int64_t first_step() const { return checkpoint ? checkpoint->manifest().step : 0; }
  PlanReport report() const { return {config(), *plan, cost, limit, prediction ? &*prediction : nullptr}; }
};

// The steps of a run, and what they leave behind.
class TrainRun {
 public:
  // `writer`: nullptr where the run writes no checkpoints.
  TrainRun(Job& job, TrainSetup& setup, Engine& engine, CheckpointWriter* writer);
  // Until the last step and the test after it, or the step after a signal on any rank. Collective.
  void run();
  // Waits until all checkpoints are written.
  void settle() { check_checkpoints(true); }
  bool stopped() const { return stopped_; }
  // Traces, tables and the closing lines.
  void finish();

 private:
  void step(int64_t step);
  StepBatches batches_of(int64_t step) const;
  void save_checkpoint(int64_t steps_done);
  void check_checkpoints(bool wait);
  // `evaluations`: of each set, or none.
  void record(int64_t step, const StepResult& result, double seconds, const std::vector<Evaluation>& evaluations);
  bool is_evaluated(int64_t step) const;
  int64_t epoch_of(int64_t step) const;
  void keep_report(int64_t steps_done, const std::vector<Evaluation>& evaluations);
  void test();
  int64_t tokens_of(int64_t step) const;
  void monitor(int64_t step, double seconds);
  void write_series(const StepResult& result, const MetricsRow& row);
  void memory_moment(const std::string& when);
  void draw_loss();
  std::vector<Evaluation> evaluate_now(const std::vector<EvaluationSet>& sets);
  void log_queries(int64_t step, const StepResult& result);
  void watch_clipping(int64_t step, const StepResult& result);

  Job& job_;
  TrainSetup& setup_;
  const Config& config_;
  Engine& engine_;
  CheckpointWriter* writer_;
  RunLog& log_;
  BatchShape query_shape_{}, backprop_shape_;
  std::vector<std::string> columns_of_sets_;
  std::optional<MetricsFile> metrics_;
  std::optional<ZoLog> zo_log_;
  CsvMonitor csv_;
  std::optional<TensorBoard> board_;
  Progress progress_;
  StepBreakdown breakdown_;
  ClipWatch clipped_estimates_, clipped_gradients_;
  CommCounters counters_before_;
  RunOutcome outcome_;
  bool stopped_ = false;
  // The step with the lowest evaluation loss, kept as a checkpoint, and the one before it, should that one not be written.
  struct Best {
    int64_t step = -1;
    double loss = 0;
  };
  Best best_, best_before_;
  nlohmann::ordered_json identity_;
  double host_bytes_ = 0, file_bytes_ = 0;  // of the busiest rank
};

}  // namespace zerostep
