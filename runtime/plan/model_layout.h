#pragma once
#include <string>
#include <vector>

#include "base/nth.h"
#include "models/unit.h"
#include "offload/tier.h"
#include "sharding/flat_layout.h"

namespace zerostep {

// A unit's parameters of one kind (type; trainable or frozen; persistent or not; borrowed by another unit or not), end to end in one
// buffer.
struct FlatGroup {
  int id = 0;
  int unit = 0;
  std::string name;                 // "h.0", "h.0 (persistent)": for labels of collectives and the plan
  std::vector<int> parameters;      // indices into the unit's parameters, in layout order
  DType type = DType::F32;          // of the parameters as they rest and are gathered; gradients, masters and state are fp32
  DType compute_type = DType::F32;  // as units compute with them; another type than `type`: each visit makes copies
  bool trainable = true;
  // Kept whole on every rank at stage 3 (a small one); gathered once after each update.
  bool persistent = false;
  bool assigned = false;                                // its parameters are updated whole, each by one rank
  Tier tier = Tier::Device, state_tier = Tier::Device;  // where its parameters rest, and masters and the optimizer's arrays
  std::vector<int> borrowers;                           // units that use a parameter of this group besides `unit`
  FlatLayout layout;
  int64_t full_elements() const { return layout.full_elements(); }
  int64_t shard_elements() const { return layout.shard_elements(); }
};

// Slices of a unit, and ranges in which the optimizer updates a group, are at most so many: smaller limits are raised, since every part is
// an action of the plan and a message or a call of the run.
constexpr int64_t kMostParts = 4096;
// The smallest limit that cuts so many elements into at most kMostParts.
constexpr int64_t smallest_part(int64_t num_elements) { return (num_elements + kMostParts - 1) / kMostParts; }

struct LayoutOptions {
  int stage = 0;
  int shard_ranks = 1;
  DType compute_type = DType::F32;
  // Where shards of what is not persistent rest at stage 3; of the file tier a rank's first `max_host_elements` do in memory.
  Tier parameter_tier = Tier::Device;
  int64_t max_host_elements = 0;
  Tier state_tier = Tier::Device;  // of masters and the optimizer's arrays, of the first `offloaded_share` of what is trained
  double offloaded_share = 1;
  bool rest_in_fp32 = false;          // what is trained rests in fp32, whatever the compute type: forward-only steps perturb it in fp32
  int64_t persistence_threshold = 0;  // elements; stage 3 only
  int64_t model_persistence_threshold = INT64_MAX;
  int64_t max_slice_elements = 0;  // the smaller of the bucket sizes in force; 0: none. No unit is cut into more than kMostParts
  bool round_robin = false;
  std::vector<std::string> trainable;  // patterns; empty: all
  std::vector<std::string> scope;      // patterns that narrow it further; empty: all
  // Matrix optimizers: the update of a matrix is made orthogonal, unless its name matches a pattern of these.
  bool orthogonal_matrices = false;
  std::vector<std::string> not_orthogonal;
  bool assign_all = false;  // vectors, too, are updated whole
  bool is_orthogonal(const ParameterInfo& parameter) const;
};

// The model's parameters as flat groups. Pure data: a function of the model's description and the options.
struct ModelLayout {
  struct Place {
    int group, index;  // index within the group
  };
  std::vector<UnitInfo> units;  // `trainable` as the patterns say
  std::vector<FlatGroup> groups;
  std::vector<std::vector<int>> own, borrowed;  // groups per unit
  std::vector<std::vector<Place>> places;       // per unit and parameter
  LayoutOptions options;

  // InputError when a pattern matches no parameter, or nothing is left to train.
  static ModelLayout make(const std::vector<UnitInfo>& units, const LayoutOptions& options);
  const UnitInfo& unit(int index) const { return nth(units, index); }
  const FlatGroup& group(int id) const { return nth(groups, id); }
  // A parameter of a group, by its index within the group.
  const ParameterInfo& parameter(const FlatGroup& group, int index) const {
    return nth(unit(group.unit).parameters, nth(group.parameters, index));
  }
  const Place& place(int unit, int parameter) const { return nth(nth(places, unit), parameter); }
  // Groups that a forward of the unit reads: its own, then the borrowed ones.
  std::vector<int> used_by(int unit) const;
  int64_t num_elements(bool trainable_only = false) const;  // without padding
};

}  // namespace zerostep
