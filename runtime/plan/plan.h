#pragma once
#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "base/nth.h"
#include "offload/tier.h"
#include "runtime/plan/action.h"
#include "runtime/plan/matrix_assignment.h"
#include "runtime/plan/model_layout.h"

namespace zerostep {

// Slots of one size that groups of similar size share.
struct RingPlan {
  std::string name;
  int64_t slot_bytes = 0;
  int num_slots = 0;
  std::vector<int> groups;
};

struct PlannedBuffer {
  Buffer id;  // of its first chunk
  std::string name;
  int64_t bytes = 0;  // of all chunks
  int num_chunks = 1;
  int64_t chunk_bytes = 0;    // of every chunk but the last, which may have fewer
  bool communicated = false;  // an operand of collectives: lies in the communicator's memory
  Tier tier = Tier::Device;
  // Of the file tier: where its chunks are in memory while they are used, chunk c in slot (first_slot + c) mod the ring's number of them.
  int staging_ring = -1, first_slot = 0;
};

// Slots in memory of the host for chunks that rest in files, of buffers of one kind and similar size.
struct StagingRing {
  BufferKind kind;
  std::string name;
  int64_t slot_bytes = 0;
  int num_slots = 0;
};

// Limits as the planner obeys them, after rounding up to whole units.
struct EffectiveLimits {
  int64_t max_live_parameters = 0, max_reuse_distance = 0, prefetch_bucket = 0, reduce_bucket = 0, allgather_bucket = 0, sub_group = 0;
};

struct PlanOptions {
  int stage = 0;
  int world = 1;         // data-parallel ranks
  bool overlap = false;  // overlap_comm: collectives on their own stream, gradient rings of two slots
  int64_t max_live_parameters = INT64_MAX, max_reuse_distance = INT64_MAX, prefetch_bucket = 0, reduce_bucket = INT64_MAX,
          allgather_bucket = INT64_MAX, sub_group = INT64_MAX;  // elements
  DType communication_type = DType::F32;
  // A processor; false: a GPU, which adds up gradients of ranks with memory of its own for the others' values, and of whose memory the host
  // updates copies.
  bool host_is_device = true;
  bool reduce_scatter = true;                  // false: stages 1 and 2 all-reduce and keep their part
  bool allgather_partitions = true;            // false: one broadcast a rank instead of an all-gather
  bool contiguous_gradients = true;            // false: a backward makes gradients of its own, which are then added to the flat buffer
  bool update = true;                          // a training step; false: evaluation
  int optimizer_state_values = 0;              // fp32 values an element
  int matrix_state_values = 0;                 // ... of assigned matrices
  int state_sets = 1;                          // that these values are of: an update uses one set
  bool gradient_in_update = true;              // the update reads reduced gradients; false: an estimate made where it is used
  bool masters = true;                         // 16-bit parameters have fp32 masters
  std::vector<int64_t> host_checkpoints = {};  // per unit: bytes of its input, where that waits for recomputation in memory of the host
  Tier gradient_tier = Tier::Device;           // of gradient shards
  int64_t parameter_buffers = 5, state_buffers = 4;  // slots of a staging ring, at most
  bool loads_early = true;                           // state is read as soon as its slot is free; false: when it is needed
  bool stores_aside = true;                          // ... and written beside later reads; false: before them
  Agreement agreement = Agreement::Gradient;         // that decides whether the step is applied
  int64_t summed_scalars = 2;                        // of it, in fp64: loss and norm, or the sums of the queries
};

// The actions of one step, as data. Where ranks differ (assigned matrices) buffers are those of the rank with most, elements rank 0's.
struct Plan {
  PlanOptions options;
  EffectiveLimits limits;
  std::vector<Visit> visits;
  std::vector<Action> actions;
  int agreement = -1;                // index of the last Agree action; -1: none
  bool applies_pending = false;      // begins with the update that an earlier step has left, if there is one
  bool defers_update = false;        // leaves its own to the next step, or to whoever needs the parameters before
  bool updates_in_backward = false;  // the host makes its own before its agreement, each group's when its gradient is complete
  std::vector<RingPlan> parameter_rings, gradient_rings;
  std::vector<StagingRing> staging_rings;
  std::vector<int> parameter_ring_of, gradient_ring_of;  // per group; -1: none (kept whole)
  bool has_backward = false;                             // gradients have buffers
  int64_t copies_bytes = 0;                              // of one visit's copies of weights
  int64_t message_bytes = 0;                             // of 16-bit reductions
  int64_t rank_values_bytes = 0;                         // of other ranks, for one round of a sum on the device
  MatrixAssignment matrices;                             // of an optimizer that needs them whole
  std::vector<PlannedBuffer> buffers;                    // everything that the runtime's own arenas hold
  int64_t elements_gathered = 0, elements_reduced = 0;   // sums over actions
  double flops = 0;                                      // sum over visits, recomputation included
  int64_t file_bytes_read = 0, file_bytes_written = 0;   // sums over actions
  std::array<int64_t, kTiers> arena_bytes = {};          // of the buffers, by tier

  const Visit& visit(int index) const { return nth(visits, index); }
  const Action& action(int index) const { return nth(actions, index); }
  int64_t device_arena_bytes() const { return nth(arena_bytes, Tier::Device); }
};

// The slot of the device that the checkpoint of a unit is loaded into, of checkpoint_slots(): the last unit's is needed first and has the
// first. -1: it does not rest in memory of the host.
int checkpoint_slot(const PlanOptions& options, int unit);
// While one segment runs backward the input of the next one comes.
constexpr int kMostCheckpointSlots = 2;
int checkpoint_slots(const PlanOptions& options);

// Whether a visit reads the parameters of its unit.
bool reads_parameters(const ModelLayout& layout, const Visit& visit);

// Whether a group's parameters are kept whole on every rank's device (stages 0-2, persistent ones, a single rank that has them there).
bool keeps_parameters_whole(const FlatGroup& group, const PlanOptions& options);
// Whether gradients are kept whole between micro-batches (stages 0 and 1, a single rank that has them on its device).
bool keeps_gradients_whole(const PlanOptions& options);
// Whether the host updates a group, and whether it does that to copies since its parameters lie on a GPU (as whole gradients then may).
bool updates_on_host(const FlatGroup& group, const Plan& plan);
bool updates_copies(const FlatGroup& group, const Plan& plan);
// Whether the update that a step leaves to the next one can be made where a group is gathered first: of what rests outside of a GPU's
// memory and is updated there, so that it crosses once each way.
bool updates_in_slot(const FlatGroup& group, const Plan& plan);
// Whether every rank updates every element (stage 0) or its own part.
bool updates_whole(const PlanOptions& options);

// Whether a group's values are kept in fp32 beside its 16-bit parameters.
bool has_masters(const FlatGroup& group, const PlanOptions& options);

// Whether every rank receives the whole sum. (16-bit messages are summed in fp32 into shards; stage 0 then gathers these.)
bool all_reduces_gradients(const PlanOptions& options);

// Elements that a communicator of `ranks` counts for a collective over `full` elements.
int64_t counted_gather(int64_t full, int ranks);
constexpr int kSummedScalars = 2;   // of a first-order step
constexpr int kMaximumScalars = 5;  // of an agreement on whether the step is applied: memory, load, and whether the run stops
// Of the cosine of an estimate and a gradient, and of the share of weights that epsilon leaves unchanged.
constexpr int kCosineScalars = 3, kUnchangedScalars = 2;

// What an action does, for people: "gather h.0 -> slot 1".
std::string describe(const ModelLayout& layout, const Plan& plan, const Action& action);
// What a trace calls an action: "gather h.0".
std::string trace_name(const ModelLayout& layout, const Plan& plan, const Action& action);
// Adds to a whole list of actions the loads and stores of chunks that rest in files: each as soon as its slot is free.
void add_loads_and_stores(const ModelLayout& layout, Plan& plan);
// Fills in the lanes of a plan's actions, and what they read and write.
void find_uses(const ModelLayout& layout, Plan& plan);
// Does that too, and fills in the waits that order the actions.
void order_actions(const ModelLayout& layout, Plan& plan);

// Elements of a part over all ranks.
int64_t elements_of_part(const ModelLayout& layout, const CollectivePart& part);
// Bytes of the 16-bit messages that a plan's largest reduction sends.
int64_t message_bytes(const ModelLayout& layout, const Plan& plan);
// Bytes of the other ranks' values that a GPU holds at once while it sums: those of the plan's largest reduction, at most
// kMostRankValueBytes, above which a sum is made in rounds.
constexpr int64_t kMostRankValueBytes = int64_t{64} << 20;
int64_t rank_values_bytes(const ModelLayout& layout, const Plan& plan);
// The fp64 numbers that the actions of an engine's plans leave for the host, part by part.
enum class ScalarPart : uint8_t {
  BackpropLoss,    // sum of the objective over this rank's micro-batches
  EvaluationLoss,  // ... over its batches that count
  SquaredNorms,    // of each group's reduced gradients, this rank's part
  QuerySums,       // ZerothOrder::Sums of each direction
};
// Where each part begins in their block; last, where the block ends.
std::array<int64_t, 5> scalar_begins(const ModelLayout& layout, int64_t query_sums);
// Fills in what the runtime's own arenas hold, from the options and the rings.
void list_buffers(const ModelLayout& layout, Plan& plan);

// The agreement of a step that sums `scalars` fp64 values over the ranks.
Action agree_action(const PlanOptions& options, Agreement what, int64_t scalars);
// Fills in the sums of elements over a plan's actions.
void add_elements(Plan& plan);
// A list of the actions of several plans of one engine, one after the other up to their agreements: backprop first, `instruction` scalars
// that make the directions of it (0: they are random), queries, `estimate` scalars that measure what they found. nullptr: no such part.
// It updates as `updates` does. `applies_pending`: the update of the step before is applied, of each group before the first action that
// touches it; `defers_update`: its own is not. `updates_in_backward`, of backprop alone: what the host updates of its own is updated before
// the agreement, each group after the last action that touches it.
struct StepSpec {
  const Plan* backprop = nullptr;
  const Plan* queries = nullptr;
  const Plan& updates;
  int64_t instruction = 0, estimate = 0;
  bool applies_pending = false, defers_update = false;
  bool pending_reads_gradient = false;  // the update of the step before may follow the reduced gradient
  bool updates_in_backward = false;
};
Plan compose(const ModelLayout& layout, const StepSpec& spec);
// Throws InputError where limits cannot hold. Nothing is allocated.
Plan make_plan(const ModelLayout& layout, std::vector<Visit> visits, const PlanOptions& options);
// Plans of one engine run in the same memory: the rings and buffers of each become what serves them all.
void share_memory(const ModelLayout& layout, const std::vector<Plan*>& plans);
// Bytes of one copy of what is trained in a unit, own and borrowed, in the compute type; offset of each group's part in the order of
// used_by().
int64_t copy_bytes(const ModelLayout& layout, int unit, std::vector<int64_t>* offsets = nullptr);

// Visits of a first-order step: forward, recomputation by segments, backward. `segments`: 0 none, -1 one per unit. Units before
// `first_trainable` run without a graph and have no backward.
std::vector<Visit> first_order_visits(int num_units, int micro_batches, int64_t segments, int first_trainable);
// Each unit once, forward only.
std::vector<Visit> evaluation_visits(int num_units);

}  // namespace zerostep
