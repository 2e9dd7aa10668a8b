#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/dtype.h"
#include "experiments/report/plot.h"
#include "launch/job.h"
#include "runtime/config/load_config.h"

namespace zerostep {

// The commands of the command line, each in the file of its name. They return the exit status and throw errors.

struct ConfigArguments {
  std::string file;
  std::vector<Setting> set;
  std::optional<std::string> text;  // as ConfigRequest::text
};

struct TrainArguments : ConfigArguments {
  std::string save_model;             // a Hugging Face directory to write at the end; "": none
  std::optional<std::string> resume;  // a checkpoint to go on from; "": the latest of the run
  int64_t stop_after = 0;             // steps of the run after which it stops as after a signal; 0: none
};
int train(Job& job, const TrainArguments& arguments);

struct PlanArguments : ConfigArguments {
  // 0: of the machine's file, one host of it; without one 1 rank, and all ranks on this machine.
  int world = 0, ranks_per_node = 0;
  std::string machine;  // a described or measured machine; "": this one
  std::string trace;    // a file for the simulated lanes; "": none
  std::string out;      // of fit(): the file to write; "": FILE with .fit.json
  bool json = false, actions = false, verify = false, fit = false;
};
int plan(const PlanArguments& arguments);
// plan --fit: the settings of a file with which its steps are fastest, as a file for train().
int fit(const PlanArguments& arguments);

struct BenchMachineArguments {
  std::string file, scratch;  // to write, "": none; a folder on the disk to measure, "": that of temporary files
  std::string device = "auto";
  int ranks = 0;  // without mpirun, on the processor; 0: one, and as many as there are cores
  double seconds = 50;
  bool replaces_any = false;  // keep the figures even where better ones are kept
};
int bench_machine(Job& job, const BenchMachineArguments& arguments);

struct SweepArguments {
  std::string command;                     // as it was typed
  std::string file, only, gpus, executor;  // only: a pattern of names; "": all. gpus: "0,1"; "": as the file says
  std::vector<Setting> set;
  int jobs = 0, ranks = 0;  // 0: as the file says
  bool is_dry_run = false, resumes = false, retries_failed = false, stops_on_failure = false;
};
int sweep(Job& job, const SweepArguments& arguments);

struct ShowConfigArguments : ConfigArguments {
  bool keys = false, json = false;
  int world = 1;
};
int show_config(const ShowConfigArguments& arguments);

struct InitArguments : ConfigArguments {
  std::string directory;
  bool overwrite = false;  // a model that lies in the directory
};
int init(const InitArguments& arguments);

struct EvalArguments : ConfigArguments {
  std::string model;  // a checkpoint or a Hugging Face directory; "": the untrained model
  bool json = false;
};
int eval(Job& job, const EvalArguments& arguments);

struct GenerateArguments {
  std::string model, prompt, tokenizer;
  int64_t tokens = 200;
  double temperature = 1.0;
  int64_t top_k = 0;
  uint64_t seed = 0;
  bool only_new = false, ignore_end = false;
};
int generate(const GenerateArguments& arguments);

struct PredictArguments {
  std::string model, input, output, tokenizer;             // tokenizer "": that of the model
  std::string text, text_field = "text", device = "auto";  // text: a template; "": the field is the text
  int64_t batch_size = 32;
};
int predict(const PredictArguments& arguments);

struct InspectBatchesArguments : ConfigArguments {
  int64_t steps = 1, first_step = 0;
  int world = 1;
};
int inspect_batches(const InspectBatchesArguments& arguments);
int inspect_model(const ConfigArguments& arguments);

struct InspectNoiseArguments : ConfigArguments {
  int64_t step = 0, direction = 0, begin = 0, count = 0;
};
int inspect_noise(const InspectNoiseArguments& arguments);

int inspect_presets(bool json);

struct ExportArguments {
  std::string checkpoint, directory;
  DType type = DType::F32;
  bool overwrite = false;  // a model that lies in the directory
};
int export_checkpoint(const ExportArguments& arguments);
int inspect_checkpoint(const std::string& path);

struct RebuildArguments {
  std::string base, log, directory;
  bool overwrite = false;  // a model that lies in the directory
};
int rebuild(const RebuildArguments& arguments);

struct PlotArguments : PlotRequest {
  bool summary = false, json = false;
};
int plot(Job& job, PlotArguments arguments);

struct WatchArguments {
  std::vector<std::string> places{"runs"};  // runs, or folders of runs
  bool once = false, json = false;
  double every = 0;  // seconds; 0: 1 on a terminal, 10 elsewhere
};
int watch(const WatchArguments& arguments);

struct RunsArguments {
  std::vector<std::string> places{"runs"};  // of list: runs, folders of runs or CSV files
  std::string folder, out;                  // of the others; out: of archives, "": beside the run's folder
  bool json = false, dry_run = false, without_checkpoints = false, remove = false;
  int64_t keep = 1;  // newest checkpoints
};
int list_runs(const RunsArguments& arguments);
int prune_runs(const RunsArguments& arguments);
int archive_runs(const RunsArguments& arguments);

struct DataListArguments {
  std::string catalogue;  // "": the program's own
  bool json = false;
};
int list_data_sets(const DataListArguments& arguments);

// How the documents of data sets are made, where the catalogue does not say it.
struct DataSourceArguments {
  std::vector<std::string> sources;  // names of the catalogue, paths, globs
  std::string catalogue, text, text_field, split, missing;
  bool json = false;
};
struct DataShowArguments : DataSourceArguments {
  std::string config;  // a run's file, whose tokenizer counts tokens
  int64_t rows = 3;
};
int show_data(const DataShowArguments& arguments);
struct DataCheckArguments : DataSourceArguments {
  std::string config;
  std::vector<std::string> against;
  std::string against_text, against_text_field;  // "" both: what is said of the sources
  int64_t parts = 20;
};
int check_data(const DataCheckArguments& arguments);
struct DataMergeArguments : DataSourceArguments {
  std::string out;
  int64_t shuffle = -1;       // -1: in the order of the sources
  int64_t max_documents = 0;  // of each source; 0: what the catalogue says, or all
  bool overwrite = false;
};
int merge_data(const DataMergeArguments& arguments);

struct DataFetchArguments {
  std::string name, catalogue;  // catalogue "": the program's own
  int64_t documents = 0;        // 0: everything
  bool json = false;
};
int fetch_data(const DataFetchArguments& arguments);

struct DoctorArguments : ConfigArguments {  // file "": the machine alone
  bool json = false;
};
int doctor(Job& job, const DoctorArguments& arguments);
// What doctor() starts as two ranks: they add numbers up, and rank 0 prints the sum.
int doctor_ranks(Job& job);

struct ProbeArguments : ConfigArguments {
  int64_t directions = 4, steps = 10;
  bool json = false;
};
int probe(Job& job, const ProbeArguments& arguments);

// Parses the arguments and runs the command that they name; gives its exit status.
int run_command_line(Job& job, int argc, char** argv);

}  // namespace zerostep
