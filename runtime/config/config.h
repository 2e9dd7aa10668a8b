#pragma once
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/dtype.h"
#include "models/model_options.h"
#include "offload/io/aio_options.h"
#include "offload/tier.h"

namespace zerostep {

// The resolved configuration: what the rest of the program reads. Made by `load_config` alone; every value is in range and nothing is
// "auto".

struct BatchConfig {
  int64_t train_batch_size = 0;  // = micro_batch_size * accumulation_steps * data-parallel world
  int64_t micro_batch_size = 0;
  int64_t accumulation_steps = 1;
};

struct OptimizerConfig {
  enum class Type : uint8_t { Adam, AdamW, SGD, Lion, Muon, MuDaMW } type = Type::AdamW;
  std::string type_name = "AdamW";
  double lr = 1e-3;
  double beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = 0;
  double momentum = 0, dampening = 0;
  bool nesterov = false;
  bool adam_w_mode = true;
  bool bias_correction = true;
  std::vector<std::string> no_decay;  // name patterns
  // Muon and MuDaMW: the update of each matrix is made orthogonal.
  bool orthogonal() const { return type == Type::Muon || type == Type::MuDaMW; }
  std::optional<std::vector<std::string>>
      no_muon;                                    // name patterns of matrices that are updated as vectors are; not given: embeddings, head
  double muon_lr_factor = 1, adam_lr_factor = 1;  // Muon: of the matrices, of everything else
  bool match_rms_adamw = false;                   // Muon: scaled by 0.2 sqrt(max(out, in)), else by sqrt(max(1, out / in))
  bool cautious = false;                          // MuDaMW: entries whose momentum and gradient differ in sign stay
  struct Group {
    std::vector<std::string> patterns;
    double lr_factor = 1.0;
    std::optional<double> weight_decay;
  };
  std::vector<Group> groups;  // first match wins
};

struct SchedulerConfig {
  enum class Type : uint8_t { None, WarmupLR, WarmupDecayLR, WarmupCosineLR, OneCycle, LRRangeTest, Cosine } type = Type::None;
  // DeepSpeed's parameters under DeepSpeed's names, defaults filled in.
  double warmup_min_lr = 0, warmup_max_lr = 0.001;
  int64_t warmup_num_steps = 1000;
  int64_t total_num_steps = 0;  // 0: the run's, which whoever knows the corpus fills in (run.epochs)
  bool warmup_log = true;       // warmup_type "log" (default) or "linear"
  double warmup_min_ratio = 0, cos_min_ratio = 0.0001;
  double cycle_min_lr = 0, cycle_max_lr = 0, decay_lr_rate = 0, cycle_min_mom = 0.8, cycle_max_mom = 0.9, decay_mom_rate = 0;
  int64_t cycle_first_step_size = 2000, cycle_second_step_size = 0, cycle_first_stair_count = 0, cycle_second_stair_count = 0,
          decay_step_size = 0;
  bool cycle_momentum = true;
  double lr_range_test_min_lr = 1e-3, lr_range_test_step_rate = 1.0;
  int64_t lr_range_test_step_size = 2000;
  bool lr_range_test_staircase = false;
  double min_lr_ratio = 0;  // ours, Cosine: floor as a share of the peak
};

struct PrecisionConfig {
  DType compute = DType::F32;  // fp32, bf16 or fp16
  // fp16
  double loss_scale = 0;  // 0: dynamic
  int initial_scale_power = 16, loss_scale_window = 1000, hysteresis = 2;
  bool consecutive_hysteresis = false;
  double min_loss_scale = 1;
  bool check_overflow = true;  // bf16
  // Whether a step whose gradients are not finite is skipped; else it ends the run.
  bool skips_overflow() const { return compute == DType::F16 || (compute == DType::BF16 && check_overflow); }
};

// What rests elsewhere than where it is computed on.
struct OffloadConfig {
  Tier tier = Tier::Device;
  bool pin_memory = true;
  std::vector<std::string> nvme_paths;               // of the file tier
  int64_t buffer_count = 4;                          // of the file tier: chunks of one kind in memory at once
  double ratio = 1;                                  // of state: share of the elements that are offloaded
  int64_t max_in_cpu = 0;                            // parameters of the file tier: elements of a rank that rest in memory all the same
  bool pipeline_read = true, pipeline_write = true;  // state of the file tier
};

struct AioConfig {
  AioOptions options;
  bool verify = false;  // checksums of chunks
};

struct ZeroConfig {
  int stage = 0;
  bool reduce_scatter = true, allgather_partitions = true, overlap_comm = false, round_robin_gradients = false, contiguous_gradients = true;
  // Elements.
  int64_t reduce_bucket_size = 500000000, allgather_bucket_size = 500000000, sub_group_size = 1000000000;
  int64_t stage3_max_live_parameters = 1000000000, stage3_max_reuse_distance = 1000000000, stage3_prefetch_bucket_size = 50000000,
          stage3_param_persistence_threshold = 100000, stage3_model_persistence_threshold = INT64_MAX;
  bool ignore_unused_parameters = true;
  OffloadConfig offload_param, offload_optimizer;
};

struct ModelConfig {
  std::string preset;             // "" when the sizes are given
  std::string path;               // a Hugging Face directory, from which the sizes and the first values come; "": untrained
  bool classifies = false;        // task
  bool fresh_classifier = false;  // the head starts from first values, whatever `path` holds
  ModelOptions options;           // vocabulary 0: the tokenizer's, which whoever loads data.tokenizer fills in (257 is known for "byte")
  std::vector<std::string> trainable;  // name patterns; empty: all
};

// One source of data.train and its like: files, given by their paths or by a name of the catalogue.
struct SourceConfig {
  std::string key;                 // JSON path, for messages: "data.train[1]"
  std::string name;                // "": none is given
  std::string catalogue;           // the file that says the rest by this name; "": the configuration itself does
  std::string how_to_get;          // what brings its files here, for messages; "": nothing that is known
  std::vector<std::string> files;  // or globs
  std::string split, text;         // "": none is given
  bool skips_missing = false;      // `missing`
  double weight = 0;               // 0: none is given
  int64_t max_documents = 0;       // 0: all
};

struct DataConfig {
  std::vector<SourceConfig> train, eval, test;  // may be empty: not every command reads data
  std::string catalogue;                        // "": the program's own
  std::string tokenizer = "byte";               // or a path
  int64_t sequence_length = 0;                  // default: n_positions
  std::string text_field = "text";
  std::vector<std::string> join_fields;
  bool skips_missing = false;  // `missing`: rows without one of these fields are left out; false: they are errors
  int64_t max_samples = 0;
  bool shuffle = true;
  std::string cache;                   // folder of token caches; default <run.output_dir>/.cache
  std::string label_field = "label";   // classification: the column or field of the label
  std::vector<SourceConfig> bp_train;  // of backprop steps, step.bp_data "own"
  std::string prompt;                  // `template`: classification by label words; "": none
  std::vector<std::string> label_words;
  std::vector<std::string> labels;  // what each word stands for; empty: the words follow the order of the data's labels
};

// Which update a step makes, and how (`step`).
struct StepConfig {
  enum class Mode : uint8_t { FirstOrder, ZerothOrder, Calibrate, Instruct, Alternating } mode = Mode::FirstOrder;
  std::string mode_name = "fo";
  std::vector<std::string> scope = {"full"};  // "full", "reduced", or name patterns

  bool is_accuracy = false;  // the objective of the queries is accuracy, else cross-entropy

  enum class Estimator : uint8_t { Central, Forward } estimator = Estimator::Central;
  enum class Perturbation : uint8_t { Gaussian, Rademacher, LowRank } perturbation = Perturbation::Gaussian;
  int64_t queries = 1;
  int64_t queries_per_pass = 0;  // 0: the planner chooses by memory
  double epsilon = 1e-3;
  int64_t rank = 2, refresh = 50;  // low_rank
  int64_t direction_parallel = 1;  // groups of ranks that share the directions out
  bool independent_data = false;   // query_data: each direction has a batch of its own
  BatchConfig query_batch;         // one direction's, over world / direction_parallel ranks
  int64_t query_sequence_length = 0;

  int64_t bp_interval = 0;  // calibrate, instruct: backprop when (step + 1) % bp_interval == 0
  enum class BackpropData : uint8_t { Same, Own, Split } bp_data = BackpropData::Same;
  std::string bp_data_name = "same";
  double bp_share = 0.5;        // Split: of the samples of data.train, backprop's
  int64_t zo_steps = 0;         // alternating: zeroth-order steps after each backprop step
  std::optional<double> bp_lr;  // alternating: of the backprop steps
  bool separate_state = false;  // alternating: each kind of step has an optimizer state of its own
  double blend = 0;             // instruct: share of the backprop gradient in the update
  int64_t monitor_interval = 0;
  bool exact_norm = false;  // of an estimate: measured, else expected
  bool masters = true;      // false: weights live in 16 bit alone, rounded stochastically

  struct Transform {
    enum class Kind : uint8_t { None, Clip, Normalise, LeaveOneOut } kind = Kind::None;
    double deviations = 3;  // Clip: largest distance from the mean, in standard deviations of the step's scalars
  } transform;

  struct Instruct {
    bool energy = false;
    double cosine = 0.5, noise_scale = 1;
    // A value that moves from start towards end as the mean of the last losses falls below the threshold, an increment a notch.
    struct Schedule {
      double start = 0, end = 0, threshold = 0, fall = 0, increment = 0;
    };
    std::optional<Schedule> cosine_schedule, noise_schedule;
  } instruct;

  bool uses_backprop() const { return mode != Mode::ZerothOrder; }
  bool uses_queries() const { return mode != Mode::FirstOrder; }
};

struct RunConfig {
  std::string name, output_dir = "runs";
  bool is_named = false;   // by the file; else `name` is made of mode, date and time
  bool overwrite = false;  // a run that lies in the folder goes
  int64_t steps = 0;       // total; derived from epochs when those are given (needs the corpus: 0 until then)
  double epochs = 0;
  int64_t eval_interval = 0, eval_samples = 0;  // 0: none / all
  bool evaluates_epochs = false;                // eval_interval "epoch": at the last step of each
  bool evaluates_on_the_way() const { return eval_interval > 0 || evaluates_epochs; }
  std::string device = "auto";
  int64_t device_memory = 0;  // bytes a rank; 0: what the machine has
  bool deterministic = true;  // false: NCCL's own sums between GPUs, and fused attention whose gradients add up in any order
  bool trace = false;
  bool plot = false;  // loss.svg at the end
  double collective_timeout_seconds = 600;
  int64_t checkpoint_interval = 0;  // steps; 0: none
  int64_t keep_checkpoints = 2;     // newest ones; 0: all
  bool keep_best = false;           // and the one with the lowest evaluation loss
  bool resume_anyway = false;
  bool end_on_checkpoint_error = true;  // checkpoint.on_error
};

struct MonitorConfig {
  // Writes a run's series to <output_path>/<job_name>; output_path "": a folder of the run's own.
  struct Series {
    bool enabled = false;
    std::string output_path, job_name;
  } csv, tensorboard;
  bool comms_enabled = false, comms_verbose = false;
  bool flops_enabled = false;
  int64_t flops_profile_step = 1;
  int flops_module_depth = -1, flops_top_modules = 1;
  bool flops_detailed = true;
  std::string flops_output_file;
};

struct Config {
  uint64_t seed = 1234;
  BatchConfig batch;
  OptimizerConfig optimizer;
  SchedulerConfig scheduler;
  PrecisionConfig precision;
  ZeroConfig zero;
  ModelConfig model;
  DataConfig data;
  StepConfig step;
  RunConfig run;
  MonitorConfig monitor;
  AioConfig aio;
  double gradient_clipping = 1.0;
  bool prescale_gradients = false;
  double gradient_predivide_factor = 1.0;
  DType communication_data_type = DType::F32;
  int64_t steps_per_print = 10;
  bool wall_clock_breakdown = false, memory_breakdown = false, dump_state = false;
  int64_t number_checkpoints = 0;  // activation_checkpointing: segments; 0: no recomputation; -1: one per unit
  bool profile_checkpointing = false;
  bool cpu_checkpointing = false;  // what is kept for recomputation rests in memory of the host
  std::string file;                // where it came from, for messages
  // ... and which keys the command line has changed, each with what was typed there: "--set data.train=corpus.txt".
  std::map<std::string, std::string, std::less<>> sources;
  // Where the value of a key ("run.name", "optimizer.groups[0].patterns") is from: what was typed, or the file.
  std::string source(std::string_view key) const;

  // Of a mode that mixes both: queries and backprop read samples of the same data, cut alike, so that their losses can stand in one series.
  bool reads_one_stream() const {
    return step.bp_data == StepConfig::BackpropData::Same && step.query_sequence_length == data.sequence_length;
  }
  // Samples of data.train that a step goes on by: those of the queries where there are any, else of backprop.
  int64_t samples_of_step() const {
    if (!step.uses_queries()) return batch.train_batch_size;
    return step.query_batch.train_batch_size * (step.independent_data ? step.queries : 1);
  }
};

}  // namespace zerostep
