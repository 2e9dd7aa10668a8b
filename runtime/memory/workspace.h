#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "base/device.h"
#include "models/model.h"
#include "models/objective.h"

namespace zerostep {

// Bytes that the kernels under a unit (LibTorch's, oneDNN's) take of LibTorch's allocator for themselves: by how much the peak of a run of
// the unit exceeds that of its tensors (ActivationCost). They depend on the processor or the GPU, the libraries and, on a processor, the
// number of threads.
struct Workspace {
  int64_t inference_bytes = 0;              // forward without a graph
  int64_t forward_bytes = 0;                // forward that records one
  int64_t backward_bytes = 0;               // with fresh gradient buffers
  int64_t accumulating_backward_bytes = 0;  // with gradients that add
  bool is_measured = true;                  // false: a run of a single token would take more than kMostProbeBytes; all are 0
};

// What measuring a unit may take: a second or so of one core, and memory that any machine has.
constexpr double kMostProbeFlops = 1e11, kMostProbeFlopsOfGpu = 1e12;
constexpr int64_t kMostProbeBytes = int64_t{2} << 30;

// What units of a model run on.
struct WorkspaceShape {
  int64_t batch = 0, sequence = 0;
  DType compute_type = DType::F32;
  bool graph = false;     // a backward follows; otherwise only inference_bytes are measured
  bool training = false;  // dropout is on
  Backend backend = Backend::Cpu;
  bool takes_factors = false;  // the last unit hands on factors of the logits, as ModelDefinition::factors_cost() has it
  ActivationShape activations() const { return {batch, sequence, compute_type, training, backend}; }
};

struct Workspaces {
  std::vector<Workspace> units;
  Workspace objective;
  // Measured on fewer tokens and carried on in proportion, because the shape itself would take seconds or gigabytes; or not all of them
  // measured.
  bool extrapolated = false;
  bool is_known = true;  // false: the device had no memory for it, and all are 0
};

// Workspaces on a device of this machine, with the threads that LibTorch has now. Each shape is measured once: a unit of each kind is run
// with made-up weights while its allocations are counted. Results are kept in a file for later processes.
class WorkspaceMeter {
 public:
  // `file`: where results are kept; empty: in this object alone. A file that cannot be read or written is done without.
  explicit WorkspaceMeter(std::string file = {}, Device device = Device::cpu());
  // $XDG_CACHE_HOME/zerostep/workspaces.jsonl, or in ~/.cache; empty where neither is set.
  static std::string default_file();

  // Blocks while it measures: up to about a second on one core, more where 16-bit numbers are emulated. Replaces LibTorch's allocator by
  // the metered one (install_metered_allocator); on a GPU what LibTorch holds there afterwards is given back. `shape` is of the device's
  // backend.
  const Workspaces& workspaces_of(const ModelDefinition& model, const Objective& objective, const WorkspaceShape& shape);
  // Whether any result so far was extrapolated.
  bool extrapolated() const { return extrapolated_; }
  const Device& device() const { return device_; }

 private:
  std::string file_;
  Device device_;
  std::map<std::string, Workspaces> known_;  // by key
  bool extrapolated_ = false;
};

}  // namespace zerostep
