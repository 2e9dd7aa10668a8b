#pragma once
#include <compare>
#include <cstdint>
#include <vector>

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
  bool probes = false;          // a visit of queries; else of backprop or of an evaluation
  bool reads_gradient = false;  // queries whose directions are made of the backprop gradient: it is gathered for the unit
  int weight_copies = 0;        // copies of the unit's trained weights that the visit holds, in the compute type
  int copied_branches = 0;      // of the branches: those that run on perturbed copies
};

enum class ActionKind : uint8_t {
  Begin,                 // the step before is done
  Gather,                // enqueue the all-gather of a group's shard into its slot
  BringShard,            // enqueue the copy of this rank's shard from memory of the host to its place in the group's slot
  ReturnShard,           // ... and back, changed
  GatherGradient,        // enqueue the all-gather of a group's reduced gradient
  Visit,                 // wait for what the unit reads, run the strategy
  Release,               // the group's slot is free once its readers are done
  Reduce,                // enqueue the reduction of gradients
  Agree,                 // sums over the ranks that all of them go on from
  GatherMatrices,        // enqueue the exchange that brings the reduced gradients of a round's matrices whole to their owners
  MakeMatrixUpdates,     // the owners work out the updates of a round's matrices
  ScatterMatrixUpdates,  // enqueue the exchange that gives a wave of them to the ranks that hold the weights
  ApplyMatrixUpdates,    // a wave of them, on this rank's parts
  Update,                // optimizer on this rank's part of a group
  GatherUpdated,         // enqueue the all-gather of updated parameters that are kept whole
  Load,                  // enqueue the read of a chunk from its file into its staging slot, or of a checkpoint into its slot on the device
  Store,                 // enqueue the write of a changed chunk from there into its file, or of a kept input into its checkpoint
  Drop,                  // the kept input that was stored is no longer on the device
  End,                   // every lane is done
};
const char* name_of(ActionKind kind);

// What an Agree action sums, and what follows from it.
enum class Agreement : uint8_t {
  Gradient,     // loss and squared norm of backprop: whether the step can be applied
  Instruction,  // histograms of the gradient's energy, products of the directions with it: what they become
  Losses,       // of the queries: their projected gradients, and whether the step can be applied
  Estimate,     // the estimate's cosine with the gradient or its norm, where they are asked for
};
const char* name_of(Agreement agreement);

// Where an action runs. Actions of one lane run in the order of the plan; those of two lanes are ordered by waits alone. On the CPU the
// compute lane is the rank's own thread; gathers and reductions share the communicator's stream, which is more order than a plan may rely
// on; reads and writes of files have a thread each, and so have copies to memory of the host and from there, of checkpoints and of shards.
// HostCompute: updates of what has its state in memory of the host or in files.
enum class Lane : uint8_t { Compute, Gather, Reduce, FileRead, FileWrite, HostCompute, DeviceToHost, HostToDevice };
constexpr int kLanes = 8;
const char* name_of(Lane lane);
// What the stream of a lane is called where the lane has one of its own, and so the row of a trace.
const char* stream_name(Lane lane);

// What actions read and write. A buffer is all of it: two actions on different elements of one are ordered as if they shared them.
enum class BufferKind : uint8_t {
  Parameters,      // of a group at rest: whole, or this rank's shard
  ParameterSlot,   // of a ring
  Gradients,       // of a group: whole, or this rank's shard
  GradientSlot,    // of a ring
  SquaredNorm,     // of a group's reduced gradients, this rank's part; lies in the memory of Scalars
  UpdateState,     // of a group: fp32 masters and the optimizer's arrays, chunk by chunk (state_chunks.h)
  MatrixState,     // the optimizer's arrays of the matrices that this rank owns
  WholeMatrices,   // of a round: gradients that become updates (kMatrixWork), updates that arrive (kMatrixResults), scratch of iterations
  WeightCopies,    // of one visit
  Activation,      // what comes into a unit of backprop (index), kept for its recomputation or backward; LibTorch's memory
  Message,         // of 16-bit reductions
  Scalars,         // losses, and what the ranks agree on
  Communicator,    // scalars are exchanged while no lane communicates
  StagingSlot,     // of a staging ring: where a chunk that rests in a file is read and written
  Checkpoint,      // of a unit: what comes into it, in memory of the host until its recomputation
  CheckpointSlot,  // on the device, of one ring: a loaded checkpoint, from before its recomputation to the end of the unit's backward
  RankValues,      // of other ranks, while a GPU sums
  HostOperands,    // in memory of the host: copies of what lies on a GPU and the host updates
};
constexpr int kMatrixWork = 0, kMatrixResults = 1, kMatrixScratch = 2;  // indices of WholeMatrices
struct Buffer {
  BufferKind kind = BufferKind::Parameters;
  int index = 0;  // group, ring or unit
  int chunk = 0;  // slot of a ring, chunk of update state
  auto operator<=>(const Buffer&) const = default;
};
const char* name_of(BufferKind kind);
struct BufferUse {
  Buffer buffer;
  bool reads, writes;
  int group = -1;        // slots: whose contents are read or written; -1: none, the slot is free from here on
  int chunk = 0;         // staging slots: which chunk of the group's; slots of checkpoints: which unit's
  bool is_last = false;  // staging slots: nothing reads these contents again, and no file needs them
};

// Slices [slice_begin, slice_end) of a group's layout.
struct CollectivePart {
  int group;
  int slice_begin, slice_end;
  int slot = -1;  // Reduce: of the gradient ring that holds the group's sums; -1: the group's own buffer
};

// Where a visit finds a group's parameters or summed gradients: in a slot of the group's ring, or in the group's own buffer (-1).
struct GroupSlot {
  int group;
  int slot;
};

// A unit's backward writes a group's gradients: into its ring slot, or into the group's own buffer (slot -1).
struct GradientUse {
  int group;
  int slot;    // in the group's gradient ring
  bool fresh;  // holds nothing yet: to be overwritten or zeroed
};

struct Action {
  ActionKind kind;
  int visit = -1;  // Visit: index into visits
  int group = -1;  // Gather, BringShard, ReturnShard, GatherGradient, Release, Update
  // Gather, BringShard, ReturnShard: in the group's parameter ring; Update: there too, -1: of the shard at rest; GatherGradient: in its
  // gradient ring, -1: whole already.
  int slot = -1;
  bool has_shard = false;                               // Gather: this rank's part is in the slot already
  std::vector<CollectivePart> parts = {};               // Reduce, GatherUpdated: one collective
  std::vector<GroupSlot> parameters = {};               // Visit: what it computes with
  std::vector<GroupSlot> summed_gradients = {};         // Visit: what its directions are made of
  std::vector<GradientUse> gradients = {};              // Visit of kind Backward
  bool accumulate = false;                              // Reduce: adds to earlier micro-batches' sums
  bool final_reduction = false;                         // Reduce: of the step's last micro-batch
  int64_t begin = 0, end = 0;                           // Update: range of the rank's part, elements
  int round = -1, wave = -1;                            // of matrices; wave -1: of the round's waves all
  bool reads_gradient = false;                          // Update, MakeMatrixUpdates: reduced gradients; else an estimate alone
  Agreement agreement = Agreement::Gradient;            // Agree
  int64_t elements_gathered = 0, elements_reduced = 0;  // as the communicator counts them, one rank
  // Of a collective: what this rank receives. Of an update: what it reads and writes of gradients, state, masters and parameters; of
  // matrices those of the owner with most (MakeMatrixUpdates) or of rank 0. Of a visit: what it reads and writes of weights and flat
  // gradients, which for each group that the unit computes with, R bytes as they rest and C in the compute type, is the sum of
  //   C    for each forward (branches that run together have one), or for the backward where that reads them,
  //   R+C  for each plain copy, where the types differ: one a visit, or one for each plain branch beside perturbed copies,
  //   R    for each direction whose perturbed copies are made, and fp32 gradients where these instruct it,
  //   C    for each perturbed copy,
  //   of a backward the fp32 gradients, twice where they are added to.
  int64_t bytes = 0;
  // Multiply-adds count two. Of a visit: those of the unit, without the objective. Of a round of matrices: of the rank with most.
  double flops = 0;
  Buffer chunk = {};  // Load, Store: as it rests; Drop: what goes
  Lane lane = Lane::Compute;
  std::vector<BufferUse> uses = {};
  std::vector<int> waits = {};  // earlier actions of other lanes that must be done before this one starts
};

}  // namespace zerostep
