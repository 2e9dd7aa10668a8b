#include "runtime/data/mixture.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <queue>
#include <utility>

#include "base/error.h"
#include "base/mixture_units.h"
#include "base/noise.h"
#include "base/nth.h"

namespace zerostep {
namespace {

using Wide = unsigned __int128;

int64_t rounded_up(Wide numerator, uint64_t denominator) { return static_cast<int64_t>((numerator + denominator - 1) / denominator); }

}  // namespace

Mixture::Mixture(const std::vector<double>& weights, uint64_t seed) : seed_(seed) {
  const double sum = std::accumulate(weights.begin(), weights.end(), 0.0);
  if (weights.empty() || !std::isfinite(sum) || std::any_of(weights.begin(), weights.end(), [](double w) { return !(w > 0); }))
    fail_protocol("a mixture of {} sources whose weights sum to {}; weights above 0 are expected", weights.size(), sum);
  using Entry = std::pair<uint64_t, int>;  // weight, node: of equal weights the first node comes first
  std::priority_queue<Entry, std::vector<Entry>, std::greater<>> open;
  for (const double weight : weights) {
    const auto units = static_cast<uint64_t>(std::max(1.0, std::round(weight / sum * kMixtureUnits)));
    open.emplace(units, static_cast<int>(std::ssize(nodes_)));
    nodes_.push_back({-1, -1, -1, units});
  }
  while (open.size() > 1) {
    const auto [light, lighter] = open.top();
    open.pop();
    const auto [heavy, heavier] = open.top();
    open.pop();
    const auto joined = static_cast<int>(std::ssize(nodes_));
    nth(nodes_, lighter).parent = nth(nodes_, heavier).parent = joined;
    open.emplace(light + heavy, joined);
    nodes_.push_back({lighter, heavier, -1, light + heavy});
  }
}

Mixture::Part Mixture::lighter_part(int node, int64_t position) const {
  const Node& n = nth(nodes_, node);
  const uint64_t light = nth(nodes_, n.lighter).weight;
  const auto stretch = static_cast<int64_t>(Wide(static_cast<uint64_t>(position)) * light / n.weight);
  const int64_t begin = rounded_up(Wide(static_cast<uint64_t>(stretch)) * n.weight, light),
                length = rounded_up(Wide(static_cast<uint64_t>(stretch) + 1) * n.weight, light) - begin;
  uint32_t bits[2];
  fill_bits({.seed = seed_, .tag = NoiseTag::Mixture, .stream = static_cast<uint32_t>(node)}, 2 * static_cast<uint64_t>(stretch), 2, bits);
  const int64_t middle = std::max<int64_t>(2, (length + 1) / 2);  // a stretch has two positions at least
  const auto drawn = static_cast<int64_t>((uint64_t{bits[0]} << 32 | bits[1]) % static_cast<uint64_t>(middle));
  const int64_t chosen = begin + (length - middle) / 2 + drawn;
  return {stretch + (chosen < position ? 1 : 0), chosen == position};
}

Mixture::Place Mixture::at(int64_t position) const {
  if (position < 0) fail_protocol("sample {} of a mixture that begins at 0", position);
  auto node = static_cast<int>(std::ssize(nodes_)) - 1;
  while (nth(nodes_, node).lighter >= 0) {
    const Part part = lighter_part(node, position);
    node = part.takes_next ? nth(nodes_, node).lighter : nth(nodes_, node).heavier;
    position = part.takes_next ? part.count : position - part.count;
  }
  return {node, position};
}

int64_t Mixture::count(int source, int64_t count) const {
  const int parent = nth(nodes_, source).parent;
  if (parent < 0) return count;
  const int64_t of_parent = this->count(parent, count), lighter = lighter_part(parent, of_parent).count;
  return nth(nodes_, parent).lighter == source ? lighter : of_parent - lighter;
}

double Mixture::share(int source) const {
  return static_cast<double>(nth(nodes_, source).weight) / static_cast<double>(nodes_.back().weight);
}

}  // namespace zerostep
