#include "runtime/plan/model_layout.h"

#include <algorithm>
#include <map>
#include <tuple>

#include "base/error.h"
#include "base/nth.h"
#include "runtime/plan/name_pattern.h"

namespace zerostep {
namespace {

void keep_trainable(std::vector<UnitInfo>& units, const std::vector<std::string>& patterns) {
  if (patterns.empty()) return;
  for (UnitInfo& unit : units)
    for (ParameterInfo& parameter : unit.parameters) parameter.trainable = parameter.trainable && matches_any(parameter.name, patterns);
}

}  // namespace

bool LayoutOptions::is_orthogonal(const ParameterInfo& parameter) const {
  return orthogonal_matrices && parameter.shape.size() == 2 && !matches_any(parameter.name, not_orthogonal);
}

ModelLayout ModelLayout::make(const std::vector<UnitInfo>& units, const LayoutOptions& options) {
  ModelLayout out{units, {}, {}, {}, {}, options};
  keep_trainable(out.units, options.trainable);
  keep_trainable(out.units, options.scope);

  std::map<std::pair<int, int>, std::vector<int>> borrowers;
  for (size_t u = 0; u < units.size(); ++u)
    for (const BorrowedParameter& b : units[u].borrowed) borrowers[{b.unit, b.parameter}].push_back(static_cast<int>(u));

  int64_t max_slice_elements = 0;
  if (options.shard_ranks > 1 && options.max_slice_elements > 0) {
    max_slice_elements = options.max_slice_elements;
    for (const UnitInfo& unit : units) max_slice_elements = std::max(max_slice_elements, smallest_part(unit.num_elements()));
  }
  int64_t persistent_elements = 0, host_elements = 0;
  out.own.resize(units.size());
  out.borrowed.resize(units.size());
  out.places.resize(units.size());
  for (size_t u = 0; u < units.size(); ++u) {
    // Key: (type, compute type, trainable, persistent, assigned, borrowers), in order of first appearance.
    using Key = std::tuple<DType, DType, bool, bool, bool, std::vector<int>>;
    std::vector<std::pair<Key, std::vector<int>>> classes;
    for (size_t p = 0; p < out.units[u].parameters.size(); ++p) {
      const ParameterInfo& info = out.units[u].parameters[p];
      const int64_t n = info.num_elements();
      // On one rank, too, wherever the others rest: sums over groups are rounded as the groups are cut.
      const bool persistent =
          options.stage == 3 && n <= options.persistence_threshold && n <= options.model_persistence_threshold - persistent_elements;
      if (persistent) persistent_elements += n;
      const auto used = borrowers.find({static_cast<int>(u), static_cast<int>(p)});
      const DType compute = info.type(options.compute_type);
      Key key{options.rest_in_fp32 && info.trainable ? DType::F32 : compute,
              compute,
              info.trainable,
              persistent,
              info.trainable && (options.assign_all || options.is_orthogonal(info)),
              used == borrowers.end() ? std::vector<int>{} : used->second};
      auto it = std::find_if(classes.begin(), classes.end(), [&](const auto& c) { return c.first == key; });
      if (it == classes.end()) it = classes.insert(classes.end(), {std::move(key), {}});
      it->second.push_back(static_cast<int>(p));
    }
    out.places[u].resize(out.units[u].parameters.size());
    for (auto& [key, parameters] : classes) {
      const auto& [type, compute_type, trainable, persistent, assigned, users] = key;
      const int id = static_cast<int>(out.groups.size());
      std::vector<int64_t> sizes;
      for (size_t i = 0; i < parameters.size(); ++i) {
        sizes.push_back(nth(out.units[u].parameters, parameters[i]).num_elements());
        nth(out.places[u], parameters[i]) = {id, static_cast<int>(i)};
      }
      std::string name = out.units[u].name;
      if (!users.empty()) name += " (tied)";
      if (is_16bit(options.compute_type) && compute_type == DType::F32) name += " (fp32)";
      if (!trainable) name += " (frozen)";
      if (assigned && !options.assign_all) name += " (matrices)";
      if (persistent) name += " (persistent)";
      FlatLayout::Options layout{options.shard_ranks, kAlignmentBytes / static_cast<int64_t>(size_of(type)), max_slice_elements,
                                 options.round_robin && options.shard_ranks > 1};
      out.groups.push_back({id, static_cast<int>(u), std::move(name), parameters, type, compute_type, trainable, persistent, assigned,
                            Tier::Device, Tier::Device, users, FlatLayout(sizes, layout)});
      FlatGroup& added = out.groups.back();
      if (options.stage == 3 && !persistent) added.tier = options.parameter_tier;
      if (added.tier == Tier::File && added.shard_elements() <= options.max_host_elements - host_elements) {
        added.tier = Tier::Host;
        host_elements += added.shard_elements();
      }
      out.own[u].push_back(id);
      for (int user : users) nth(out.borrowed, user).push_back(id);
    }
  }
  double trained = 0, before = 0;
  for (const FlatGroup& g : out.groups) trained += g.trainable ? static_cast<double>(g.full_elements()) : 0;
  for (FlatGroup& g : out.groups) {
    if (!g.trainable) continue;
    if (before < options.offloaded_share * trained) g.state_tier = g.assigned ? at_most_host(options.state_tier) : options.state_tier;
    before += static_cast<double>(g.full_elements());
  }
  if (out.num_elements(true) == 0)
    fail_input("model.trainable{} no parameter to train", options.scope.empty() ? " leaves" : " and step.scope leave");
  return out;
}

std::vector<int> ModelLayout::used_by(int unit) const {
  std::vector<int> out = nth(own, unit);
  const auto& more = nth(borrowed, unit);
  out.insert(out.end(), more.begin(), more.end());
  return out;
}

int64_t ModelLayout::num_elements(bool trainable_only) const {
  int64_t n = 0;
  for (const UnitInfo& unit : units)
    for (const ParameterInfo& p : unit.parameters) n += p.trainable || !trainable_only ? p.num_elements() : 0;
  return n;
}

}  // namespace zerostep
