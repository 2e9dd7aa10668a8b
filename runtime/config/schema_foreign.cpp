#include "runtime/config/schema.h"

namespace zerostep::schema {
namespace {

constexpr std::string_view kRemoved = "DeepSpeed itself has dropped it, and there is nothing like it here: leave it out";
constexpr std::string_view kNoVariables = "variables are set where the program is started; those known here are printed at the start";
constexpr std::string_view kNoModelParallel = "models are sharded, never split into pieces that compute apart: leave it out";

// Keys that real files hold and that ask for features of other tools.
const Key kKeys[] = {
    {"gradient_allreduce_op", R, choice("mean|sum"), "", "gradients are averaged: scale the learning rate instead", "[\"mean\"]"},
    {"managed_gradient_accumulation", R, boolean(), "", "the engine counts the micro-batches: leave it true", "[true]"},
    {"sparse_gradients", R, boolean(), "", kRemoved, "[false]"},
    {"seq_parallel_communication_data_type", A, or_null(text()), "", "sequences are not split over ranks"},
    {"disable_allgather", A, boolean(), "", "DeepSpeed reads it nowhere either; see zero_optimization.allgather_partitions"},
    {"disable_python_gc", A, boolean(), "", "there is no Python"},
    {"dataloader_drop_last", A, boolean(), "", "batches run on over the ends of epochs"},
    {"zero_allow_untested_optimizer", A, boolean(), "", "every optimizer works at every stage"},
    {"zero_force_ds_cpu_optimizer", A, boolean(), "", "there is one optimizer, ours"},
    {"log_level", A, or_null(text()), "", "the log has one level"},
    {"vocabulary_size", A, or_null(integer(1)), "", "DeepSpeed only warns by it; the model's is model.vocab_size"},
    {"graph_harvesting", A, boolean(), "", "it captures CUDA graphs, which computes the same"},
    {"amp", R, or_null(anything()), "", "use bf16 or fp16", "off"},
    {"torch_autocast", R, or_null(anything()), "", "use bf16 or fp16", "off"},
    {"compile", A, or_null(anything()), "", "the program is compiled already"},
    {"elasticity", R, or_null(anything()), "", kRemoved, "off"},
    {"autotuning", R, or_null(anything()), "", "not in this version: `zerostep plan FILE --fit` chooses stage, tiers and micro-batch",
     "off"},
    {"data_efficiency", R, or_null(anything()), "", "curricula and data routing are not in this version: leave it out", "off"},
    {"curriculum_learning", R, or_null(anything()), "", kRemoved, "off"},
    {"progressive_layer_drop", R, or_null(anything()), "", kRemoved, "off"},
    {"eigenvalue", R, or_null(anything()), "", kRemoved, "off"},
    {"quantize_training", R, or_null(anything()), "", kRemoved, "off"},
    {"compression_training", R, or_null(anything()), "", kRemoved, "[{}]"},
    {"weight_quantization", R, or_null(anything()), "", "weights are not quantized: leave it out", "[{}]"},
    {"sparse_attention", R, or_null(anything()), "", kRemoved, "[{}]"},
    {"pipeline", R, or_null(anything()), "", kNoModelParallel, "[{}]"},
    {"tensor_parallel", R, or_null(anything()), "", kNoModelParallel, "[{}, {\"autotp_size\": 0}, {\"autotp_size\": 1}]"},
    {"sequence_parallel", R, or_null(anything()), "", kNoModelParallel, "off"},
    {"sequence_parallel_size", R, integer(1), "", kNoModelParallel, "[1]"},
    {"expert_parallel", R, or_null(anything()), "", kNoModelParallel, "off"},
    {"use_data_before_expert_parallelism", A, boolean(), "", "there are no experts"},
    {"hybrid_engine", R, or_null(anything()), "", "generation inside training is not in this version: use `zerostep generate`", "off"},
    {"wandb", R, or_null(anything()), "",
     "Weights & Biases is reached by way of TensorBoard's files: use tensorboard, then `wandb sync FOLDER` uploads them (wandb up to 0.28; "
     "later ones read no such files: log there what TensorBoard's EventAccumulator gives)",
     "off"},
    {"comet", R, or_null(anything()), "", "this monitor is not in this version: use tensorboard, csv_monitor, or the run's metrics.csv",
     "off"},
    {"nebula", R, or_null(anything()), "", kRemoved, "off"},
    {"datastates_ckpt", A, or_null(anything()), "", "checkpoints have one writer, ours, which works behind the run's back too"},
    {"timers", A, or_null(anything()), "", "steps are timed in any case; see wall_clock_breakdown"},
    {"allgather_size", A, integer(0), "", "an old name: use zero_optimization.allgather_bucket_size"},
    {"comms_config", A, or_null(anything()), "", "DeepSpeed's own name for comms_logger's values: use comms_logger"},
    {"monitor_config", A, or_null(anything()), "", "DeepSpeed's own name for the monitors' values: use csv_monitor and tensorboard"},
    {"environment", A, or_null(anything()), "", kNoVariables},
    {"env", A, or_null(anything()), "", kNoVariables},
    {"local_rank", A, or_null(integer(-1)), "", "mpirun says which rank is which"},
    {"_comment", A, anything(), "", "a comment"},
    {"use_dynamic_tiling", A, boolean(), "", "a key of another tool, which no DeepSpeed reads: units are the tiles here"},
    {"data_types.param_dtype", R, or_null(text()), "", "masters are fp32, compute is as fp16 and bf16 say: leave it out", "[\"fp32\"]"},
    {"data_types.buffer_dtype", A, or_null(text()), "", "models here hold no buffers"},
    {"data_types.keep_in_fp32_modules", A, anything(), "", "gains and biases stay fp32 in any case"},
    {"checkpoint.use_node_local_storage", R, boolean(), "", "the files of a checkpoint lie in one folder, which all ranks see", "[false]"},
    {"checkpoint.parallel_write", A, or_null(anything()), "", "every rank writes its own shard"},
    {"checkpoint.writer", A, or_null(anything()), "", "there is one writer of checkpoints, ours"},
    {"checkpoint.checkpoint_serialization", A, boolean(), "", "checkpoints are safetensors"},
};

}  // namespace

void add_foreign_keys(std::vector<Key>& keys) { keys.insert(keys.end(), std::begin(kKeys), std::end(kKeys)); }

}  // namespace zerostep::schema
