#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "runtime/plan/matrix_deal.h"
#include "runtime/plan/model_layout.h"

namespace zerostep {

// What a strategy does with a unit when it comes by. Forward records a graph; ForwardOnly does not (checkpointed segments, evaluation, ZO).
enum class VisitKind : uint8_t { Forward, ForwardOnly, Recompute, Backward };
const char* name_of(VisitKind kind);

// A strategy's step is a list of visits, known before the step. `branches` forward passes of every micro-batch run through the unit while
// it is gathered (queries: both signs of every direction of a pass); 1 for first order, which visits once a micro-batch.
struct Visit {
  int unit;
  VisitKind kind;
  int micro_batch = 0;
  int branches = 1;
  bool keep_input = false;  // ForwardOnly: the input is kept for a later Recompute
  int pass = 0;             // queries: which directions
  int micro_batches = 1;    // queries: each branch runs them all
  int token_batches = 1;    // queries: micro-batches that the pass holds; more when every direction has its own
  // Queries: branches that run as one batch through one forward, the last ones perhaps fewer. With low-rank directions they have
  // perturbation_bytes of factors and vectors of their own; where perturbed matrices are made in tiles, of vectors, and a product takes
  // tile_bytes, which depend on the number of threads: they count as workspace.
  int branches_together = 1;
  int64_t perturbation_bytes = 0;
  bool tiled = false;
  int64_t tile_bytes = 0;
  bool reads_gradient = false;  // queries whose directions are made of the backprop gradient: it is gathered for the unit
  int weight_copies = 0;        // copies of the unit's trained weights that the visit makes, in the compute type
};

enum class ActionKind : uint8_t {
  Gather,          // enqueue the all-gather of a group's shard into its slot
  GatherGradient,  // enqueue the all-gather of a group's reduced gradient
  Visit,           // wait for what the unit reads, run the strategy
  Release,         // the group's slot is free once its readers are done
  Reduce,          // enqueue the reduction of gradients
  Scalars,         // norm, overflow, loss: the one host synchronisation of a step
  UpdateMatrices,  // optimizer on whole matrices that are dealt to ranks, one round of them
  Update,          // optimizer on this rank's part of a group
  GatherUpdated,   // enqueue the all-gather of updated parameters that are kept whole
};
const char* name_of(ActionKind kind);

// Slices [slice_begin, slice_end) of a group's layout.
struct CollectivePart {
  int group;
  int slice_begin, slice_end;
};

// A unit's backward writes a group's gradients: into its ring slot, or into the group's own buffer (slot -1).
struct GradientUse {
  int group;
  int slot;    // in the group's gradient ring
  bool fresh;  // holds nothing yet: to be overwritten or zeroed
};

struct Action {
  ActionKind kind;
  int visit = -1;                          // Visit: index into visits
  int group = -1;                          // Gather, GatherGradient, Release, Update
  int slot = -1;                           // Gather: in the group's parameter ring; GatherGradient: in its gradient ring, -1: whole already
  std::vector<CollectivePart> parts = {};  // Reduce, GatherUpdated: one collective
  std::vector<GradientUse> gradients = {};              // Visit of kind Backward
  bool accumulate = false;                              // Reduce: adds to earlier micro-batches' sums
  bool final_reduction = false;                         // Reduce: of the step's last micro-batch
  int64_t begin = 0, end = 0;                           // Update: range of the rank's part, elements
  int round = -1;                                       // UpdateMatrices
  int64_t elements_gathered = 0, elements_reduced = 0;  // as the communicator counts them, one rank
};

// Slots of one size that groups of similar size share.
struct RingPlan {
  std::string name;
  int64_t slot_bytes = 0;
  int num_slots = 0;
  std::vector<int> groups;
};

enum class Tier : uint8_t { Device, Host, File };

struct PlannedBuffer {
  std::string name;
  int64_t bytes = 0;
  bool communicated = false;  // an operand of collectives: lies in the communicator's memory
  Tier tier = Tier::Device;
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
  bool reduce_scatter = true;        // false: stages 1 and 2 all-reduce and keep their part
  bool allgather_partitions = true;  // false: one broadcast a rank instead of an all-gather
  bool contiguous_gradients = true;  // false: a backward makes gradients of its own, which are then added to the flat buffer
  bool update = true;                // a training step; false: evaluation
  int optimizer_state_values = 0;    // fp32 values an element
  int matrix_state_values = 0;       // ... of dealt matrices
  bool gradient_in_update = true;    // the update reads reduced gradients; false: an estimate made where it is used
  bool masters = true;               // 16-bit parameters have fp32 masters
  int64_t summed_scalars = 2;        // of the action Scalars, in fp64: loss and norm, or the sums of the queries
  // Where parameters rest between uses. Shards on the device of the only rank need no slot.
  Tier parameter_tier = Tier::Device;
};

// The actions of one step, as data. Where ranks differ (dealt matrices) buffers are those of the rank with most, elements rank 0's.
struct Plan {
  PlanOptions options;
  EffectiveLimits limits;
  std::vector<Visit> visits;
  std::vector<Action> actions;
  std::vector<RingPlan> parameter_rings, gradient_rings;
  std::vector<int> parameter_ring_of, gradient_ring_of;  // per group; -1: none (kept whole)
  bool has_backward = false;                             // gradients have buffers
  int64_t copies_bytes = 0;                              // of one visit's copies of weights
  int64_t message_bytes = 0;                             // of 16-bit reductions
  MatrixDeal matrices;                                   // of an optimizer that needs them whole
  std::vector<PlannedBuffer> buffers;                    // everything that the runtime's own arenas hold
  int64_t elements_gathered = 0, elements_reduced = 0;   // sums over actions
  int64_t device_arena_bytes = 0;

  bool slotted(int group) const { return parameter_ring_of[static_cast<size_t>(group)] >= 0; }
};

// Whether a group's parameters are kept whole on every rank (stages 0-2, persistent ones, a single rank).
bool keeps_parameters_whole(const FlatGroup& group, const PlanOptions& options);
// Whether gradients are kept whole between micro-batches (stages 0 and 1, a single rank).
bool keeps_gradients_whole(const PlanOptions& options);
// Whether every rank updates every element (stage 0) or its own part.
bool updates_whole(const PlanOptions& options);

// Whether a group's values are kept in fp32 beside its 16-bit parameters.
bool has_masters(const FlatGroup& group, const PlanOptions& options);

// Whether every rank receives the whole sum. (16-bit messages are summed in fp32 into shards; stage 0 then gathers these.)
bool all_reduces_gradients(const PlanOptions& options);

// Elements that a communicator of `ranks` counts for a collective over `full` elements.
int64_t counted_gather(int64_t full, int ranks);
constexpr int kSummedScalars = 2, kMaximumScalars = 2;  // of a first-order step
// Of the cosine of an estimate and a gradient, and of the share of weights that epsilon leaves unchanged.
constexpr int kCosineScalars = 3, kUnchangedScalars = 2;
int64_t counted_scalars(int ranks, int64_t summed);

// Elements of a part over all ranks.
int64_t elements_of_part(const ModelLayout& layout, const CollectivePart& part);
// Bytes of the 16-bit messages that a plan's largest reduction sends.
int64_t message_bytes(const ModelLayout& layout, const Plan& plan);
// Fills in what the runtime's own arenas hold, from the options and the rings.
void list_buffers(const ModelLayout& layout, Plan& plan);

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
