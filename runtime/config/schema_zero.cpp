#include "runtime/config/schema.h"

namespace zerostep::schema {
namespace {

constexpr std::string_view kNoQuantization = "quantized communication is not in this version: use communication_data_type";
constexpr std::string_view kNoGroups = "shard groups smaller than the world are not in this version: leave it out";

const Key kKeys[] = {
    {"zero_optimization.stage", H, integer(0, 3), "0", "what is sharded: 0 nothing, 1 optimizer state, 2 gradients too, 3 parameters too"},
    {"zero_optimization.contiguous_gradients", H, boolean(), "true",
     "the backward writes gradients straight into the buffer that is reduced; false: into tensors of its own, added to it unit by unit"},
    {"zero_optimization.reduce_scatter", H, boolean(), "true", "reduce gradients by reduce-scatter; false all-reduces and drops the rest"},
    {"zero_optimization.reduce_bucket_size", H, integer(0), "500000000", "elements of one reduction; 0: as few as there can be"},
    {"zero_optimization.allgather_partitions", H, boolean(), "true", "gather updated parameters by all-gather; false by broadcasts"},
    {"zero_optimization.allgather_bucket_size", H, integer(1), "500000000", "elements of one all-gather of updated parameters"},
    {"zero_optimization.overlap_comm", H, or_null(boolean()), "",
     "communicate while the next unit computes; true at stage 3, else false, where it is missing"},
    {"zero_optimization.round_robin_gradients", H, boolean(), "false", "every rank owns a share of every parameter, not of every unit"},
    {"zero_optimization.sub_group_size", H, integer(0), "1000000000",
     "elements that the optimizer updates at once; 0: as few as there can be; of state in files 4 Mi at most"},
    {"zero_optimization.ignore_unused_parameters", H, boolean(), "true", "a parameter without a gradient is no error"},
    {"zero_optimization.stage3_max_live_parameters", H, integer(0), "1000000000", "gathered elements held at once; 0 is one unit"},
    {"zero_optimization.stage3_max_reuse_distance", H, integer(0), "1000000000",
     "keep a unit that is used again within so many elements; 0 keeps nothing"},
    {"zero_optimization.stage3_prefetch_bucket_size", H, integer(0), "50000000",
     "elements gathered ahead of their use; 0 prefetches nothing"},
    {"zero_optimization.stage3_param_persistence_threshold", H, integer(0), "100000", "parameters smaller than this stay gathered"},
    {"zero_optimization.stage3_model_persistence_threshold", H, integer(0), "9223372036854775807",
     "elements that may stay gathered in all"},

    {"zero_optimization.stage3_gather_16bit_weights_on_model_save", A, boolean(), "", "an export always writes whole weights"},
    {"zero_optimization.memory_efficient_linear", A, boolean(), "",
     "what autograd saves of a weight follows its slot: no gathered copy is ever kept"},
    {"memory_efficient_linear", A, boolean(), "", "what autograd saves of a weight follows its slot: no gathered copy is ever kept"},
    {"zero_optimization.load_from_fp32_weights", R, boolean(), "", "masters are always made from fp32 weights: leave it true", "[true]"},
    {"zero_optimization.compute_grad_norm", R, boolean(), "", "the norm is part of every row of metrics: leave it true", "[true]"},
    {"zero_optimization.parameter_alignment", A, boolean(), "", "every parameter starts at a 64-byte boundary"},

    {"zero_optimization.zero_hpz_partition_size", R, integer(0), "", kNoGroups, "[0, 1]"},
    {"zero_optimization.mics_shard_size", R, integer(-1), "", kNoGroups, "[-1]"},
    {"zero_optimization.mics_hierarchical_params_gather", R, boolean(), "", kNoGroups, "[false]"},
    {"zero_optimization.zero_quantized_weights", R, boolean(), "", kNoQuantization, "[false]"},
    {"zero_optimization.zero_quantized_gradients", R, boolean(), "", kNoQuantization, "[false]"},
    {"zero_optimization.zero_quantized_nontrainable_weights", R, boolean(), "", kNoQuantization, "[false]"},
    {"zero_optimization.zeropp_loco_param", R, or_null(anything()), "", kNoQuantization, "[{}]"},

    {"zero_optimization.use_multi_rank_bucket_allreduce", A, boolean(), "", "every rank owns an equal slice of every bucket"},
    {"zero_optimization.elastic_checkpoint", A, boolean(), "", "checkpoints are re-sliced for any world size by design"},
    {"zero_optimization.zenflow", R, or_null(anything()), "", "ZenFlow is not in this version: use the optimizer as it is", "[{}]"},
    {"zero_optimization.cpu_offload_use_pin_memory", A, or_null(boolean()), "", "pin_memory of the offload blocks says it"},
    {"zero_optimization.stage3_module_granularity_threshold", A, integer(0), "", "units are whole blocks already"},
    {"zero_optimization.stage3_use_all_reduce_for_fetch_params", A, boolean(), "", "units are gathered by one all-gather each"},
    {"zero_optimization.stage3_allgather_sequential", A, boolean(), "",
     "a unit is gathered straight into its slot, without a bucket in between"},
    {"zero_optimization.legacy_stage1", A, boolean(), "", "there is one implementation of stage 1"},
    {"zero_optimization.pipeline_loading_checkpoint", A, boolean(), "", "weights are read unit by unit in any case"},
    {"zero_optimization.override_module_apply", A, boolean(), "", "modules are made unit by unit in any case"},
    {"zero_optimization.log_trace_cache_warnings", A, boolean(), "", "nothing is traced: the plan is made before the step"},
    {"zero_optimization.enable_sanity_checks", A, boolean(), "", "operations carry fingerprints in any case"},
    {"zero_optimization.save_muon_momentum_buffer_in_memory", A, boolean(), "", "the state of whole matrices never rests in files"},
    {"zero_optimization.leaf_module", A, or_null(anything()), "", "units are whole blocks already"},
    {"zero_optimization.grad_hooks", A, boolean(), "", "the engine drives the backward itself, without hooks"},

    {"zero_optimization.offload_param.device", H, or_null(choice("none|cpu|nvme")), "\"none\"",
     "where shards of parameters rest at stage 3: with their rank's device, in memory of its host, or in files"},
    {"zero_optimization.offload_param.nvme_path", H, or_null(file_names()), "",
     "folders of the files, over which they are spread; made where they are not there"},
    {"zero_optimization.offload_param.pin_memory", H, boolean(), "true",
     "lock memory of the host in place, as far as the system permits it"},
    {"zero_optimization.offload_param.buffer_count", H, integer(1), "5", "shards in files: as many of similar size are in memory at once"},
    {"zero_optimization.offload_param.buffer_size", A, integer(0), "", "a buffer is as large as the largest shard that it holds"},
    {"zero_optimization.offload_param.max_in_cpu", H, integer(0), "0",
     "elements of a rank that rest in memory before others rest in files"},
    {"zero_optimization.offload_optimizer.device", H, or_null(choice("none|cpu|nvme")), "\"none\"",
     "where shards of gradients, fp32 masters and the optimizer's arrays rest: with their rank's device, in memory of its host, or in "
     "files"},
    {"zero_optimization.offload_optimizer.nvme_path", H, or_null(file_names()), "",
     "folders of the files, over which they are spread; made where they are not there"},
    {"zero_optimization.offload_optimizer.pin_memory", H, boolean(), "true",
     "lock memory of the host in place, as far as the system permits it"},
    {"zero_optimization.offload_optimizer.buffer_count", H, integer(1), "4", "state in files: so many pieces are in memory at once"},
    {"zero_optimization.offload_optimizer.buffer_size", A, integer(0), "", "a buffer is as large as the largest piece that it holds"},
    {"zero_optimization.offload_optimizer.fast_init", A, boolean(), "", "state starts as zeros of the file system: nothing is written"},
    {"zero_optimization.offload_optimizer.pipeline", A, boolean(), "", "pipeline_read and pipeline_write say it"},
    {"zero_optimization.offload_optimizer.pipeline_read", H, boolean(), "true",
     "read state as soon as there is room for it; false: when it is due"},
    {"zero_optimization.offload_optimizer.pipeline_write", H, boolean(), "true", "write state beside later reads; false: before them"},
    {"zero_optimization.offload_optimizer.ratio", H, number(0, 1), "1.0", "share of the optimizer's state that is offloaded"},
    {"zero_optimization.offload_optimizer.super_offload", R, boolean(), "",
     "updates follow the norm and are never rolled back: leave it out", "[false]"},
    {"zero_optimization.offload_optimizer.cpuadam_cores_perc", A, number(0, 1), "", "the optimizer runs in the threads of its rank"},

    {"aio.block_size", H, integer(1, int64_t{1} << 30), "1048576", "bytes of one request to a file"},
    {"aio.queue_depth", H, integer(1, 1024), "8", "requests in flight"},
    {"aio.single_submit", H, boolean(), "false", "hand each request to the system by a call of its own"},
    {"aio.overlap_events", H, boolean(), "true", "a request that is done makes room for the next; false: for all of them at once"},
    {"aio.intra_op_parallelism", H, integer(1, 64), "1", "parts of a transfer that go on side by side, each with queue_depth requests"},
    {"aio.use_gds", R, boolean(), "", "GPUDirect storage is not in this version: leave it out", "[false]"},
    {"aio.verify", H, boolean(), "false", "checksums of what rests in files, compared when it is read"},
};

}  // namespace

void add_zero_keys(std::vector<Key>& keys) { keys.insert(keys.end(), std::begin(kKeys), std::end(kKeys)); }

}  // namespace zerostep::schema
