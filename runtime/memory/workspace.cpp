#include "runtime/memory/workspace.h"

#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "runtime/data/content_hash.h"
#include "runtime/memory/unit_probe.h"

namespace zerostep {
namespace {

using nlohmann::json;

// What a measurement may take: a second or so of one core, and memory that any machine has.
constexpr double kMostFlops = 1e11;
constexpr int64_t kMostBytes = int64_t{2} << 30;
constexpr uintmax_t kMostFileBytes = 4 << 20;

std::string processor_name() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);)
    if (line.starts_with("model name")) return line;
  return {};
}

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

// The processor, what the libraries may use of it, and this program.
std::string machine_key() {
  struct stat program {};
  ::stat("/proc/self/exe", &program);
  std::string out = fmt::format("{}|{}|{} threads|{} {}.{}", processor_name(), at::get_cpu_capability(), at::get_num_threads(),
                                program.st_size, program.st_mtim.tv_sec, program.st_mtim.tv_nsec);
  for (const char* name : {"ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "MKL_ENABLE_INSTRUCTIONS", "MKL_CBWR"})
    out += fmt::format("|{}={}", name, environment(name));
  return out;
}

std::string text_of(const ActivationCost& c) {
  return fmt::format("{} {} {} {} {} {}", c.output_bytes, c.saved_bytes, c.forward_transient_bytes, c.inference_transient_bytes,
                     c.backward_transient_bytes, c.accumulating_backward_transient_bytes);
}

// The units of a model that are unlike each other, and of which kind each is.
struct UnitKinds {
  UnitKinds(const ModelDefinition& model, const Objective& objective, const WorkspaceShape& shape) {
    const auto& units = model.units();
    ContentHash hash;
    std::map<std::string, size_t> kinds;
    for (size_t u = 0; u < units.size(); ++u) {
      const ActivationCost cost =
          model.activation_cost(static_cast<int>(u), shape.batch, shape.sequence, shape.compute_type, shape.training);
      std::string text = fmt::format("{} {}|{}", u == 0, u + 1 == units.size(), text_of(cost));
      const auto add = [&](const ParameterInfo& p) { text += fmt::format("|{}", fmt::join(p.shape, "x")); };
      for (const ParameterInfo& p : units[u].parameters) add(p);
      for (const BorrowedParameter& b : units[u].borrowed)
        add(units[static_cast<size_t>(b.unit)].parameters[static_cast<size_t>(b.parameter)]);
      const auto [at, is_new] = kinds.emplace(text, representatives.size());
      if (is_new) {
        representatives.push_back(static_cast<int>(u));
        hash.add(text);
      }
      kind_of.push_back(at->second);
    }
    hash.add(model.hugging_face_config()).add(objective.name());
    key = hash.hex();
  }
  std::vector<int> representatives;
  std::vector<size_t> kind_of;
  std::string key;
};

// What a probe of these units would take.
struct ProbeCost {
  double flops = 0;
  int64_t num_bytes = 0;
};
ProbeCost probe_cost(const ModelDefinition& model, const std::vector<int>& units, const WorkspaceShape& shape) {
  ProbeCost out;
  for (const int u : units) {
    const ActivationCost cost = model.activation_cost(u, shape.batch, shape.sequence, shape.compute_type, shape.training);
    out.flops += cost.forward_flops * (shape.graph ? 9 : 3);
    int64_t elements = model.units()[static_cast<size_t>(u)].num_elements();
    for (const BorrowedParameter& b : model.units()[static_cast<size_t>(u)].borrowed)
      elements += model.units()[static_cast<size_t>(b.unit)].parameters[static_cast<size_t>(b.parameter)].num_elements();
    const int64_t weights = num_bytes(elements, shape.compute_type) + (shape.graph ? num_bytes(elements, DType::F32) : 0);
    const int64_t forward = cost.output_bytes + cost.inference_transient_bytes;
    const int64_t backward = cost.output_bytes + cost.saved_bytes + std::max(cost.forward_transient_bytes, cost.backward_transient_bytes);
    out.num_bytes = std::max(out.num_bytes, weights + (shape.graph ? backward : forward));
  }
  return out;
}

// The largest shape of no more tokens that may be probed: half the samples again and again, then half the tokens of one. False: none.
bool shrink(const ModelDefinition& model, const std::vector<int>& units, WorkspaceShape& shape) {
  for (;;) {
    const ProbeCost cost = probe_cost(model, units, shape);
    if (cost.flops <= kMostFlops && cost.num_bytes <= kMostBytes) return true;
    if (shape.batch > 1)
      shape.batch /= 2;
    else if (shape.sequence > 1)
      shape.sequence /= 2;
    else
      return false;
  }
}

// The line through what two numbers of tokens take, where it rises.
int64_t carry_on(int64_t smaller, int64_t larger, double tokens, double smaller_tokens, double larger_tokens) {
  const double rise = static_cast<double>(std::max<int64_t>(0, larger - smaller)) / (larger_tokens - smaller_tokens);
  return larger + static_cast<int64_t>(rise * (tokens - larger_tokens));
}

Workspaces measured(const ModelDefinition& model, const std::vector<int>& units, const Objective& objective, const WorkspaceShape& shape) {
  WorkspaceShape small = shape;
  if (!shrink(model, units, small)) {
    Workspaces out;
    out.units.resize(units.size());
    out.extrapolated = true;
    return out;
  }
  Workspaces out = probe_units(model, units, objective, small);
  if (small.batch == shape.batch && small.sequence == shape.sequence) return out;
  WorkspaceShape half = small;
  (half.batch > 1 ? half.batch : half.sequence) /= 2;
  out.extrapolated = true;
  if (half.batch * half.sequence == 0) return out;
  const Workspaces less = probe_units(model, units, objective, half);
  const auto tokens = [](const WorkspaceShape& s) { return static_cast<double>(s.batch * s.sequence); };
  const auto extend = [&](const Workspace& smaller, Workspace& w) {
    for (int64_t Workspace::*bytes :
         {&Workspace::inference_bytes, &Workspace::forward_bytes, &Workspace::backward_bytes, &Workspace::accumulating_backward_bytes})
      w.*bytes = carry_on(smaller.*bytes, w.*bytes, tokens(shape), tokens(half), tokens(small));
  };
  for (size_t i = 0; i < out.units.size(); ++i) extend(less.units[i], out.units[i]);
  extend(less.objective, out.objective);
  return out;
}

json to_json(const Workspace& w) { return {w.inference_bytes, w.forward_bytes, w.backward_bytes, w.accumulating_backward_bytes}; }
Workspace from_json(const json& j) {
  return {j.at(0).get<int64_t>(), j.at(1).get<int64_t>(), j.at(2).get<int64_t>(), j.at(3).get<int64_t>()};
}

// The entry of a key in the file, if it is there as a whole. A line that cannot be read is another's unfinished write.
bool recall(const std::string& file, const std::string& key, size_t num_units, Workspaces& out) {
  std::ifstream in(file);
  for (std::string line; std::getline(in, line);) {
    if (line.find(key) == std::string::npos) continue;
    try {
      const json j = json::parse(line);
      Workspaces found;
      for (const json& w : j.at("units")) found.units.push_back(from_json(w));
      found.objective = from_json(j.at("objective"));
      found.extrapolated = j.at("extrapolated").get<bool>();
      if (j.at("key") != key || found.units.size() != num_units) continue;
      out = std::move(found);
      return true;
    } catch (const json::exception&) {
      continue;
    }
  }
  return false;
}

// One line in one write, which other processes' lines stand beside.
void remember(const std::string& file, const std::string& key, const Workspaces& found) {
  std::error_code ignored;
  const std::filesystem::path path(file);
  std::filesystem::create_directories(path.parent_path(), ignored);
  if (std::filesystem::file_size(path, ignored) > kMostFileBytes && !ignored) std::filesystem::remove(path, ignored);
  json j{{"key", key}, {"extrapolated", found.extrapolated}, {"objective", to_json(found.objective)}, {"units", json::array()}};
  for (const Workspace& w : found.units) j["units"].push_back(to_json(w));
  std::ofstream(file, std::ios::app) << j.dump() + "\n";
}

}  // namespace

WorkspaceMeter::WorkspaceMeter(std::string file) : file_(std::move(file)) {}

std::string WorkspaceMeter::default_file() {
  std::string folder = environment("XDG_CACHE_HOME");
  if (folder.empty() && !environment("HOME").empty()) folder = environment("HOME") + "/.cache";
  return folder.empty() ? "" : folder + "/zerostep/workspaces.jsonl";
}

const Workspaces& WorkspaceMeter::of(const ModelDefinition& model, const Objective& objective, const WorkspaceShape& shape) {
  const UnitKinds kinds(model, objective, shape);
  ContentHash hash;
  hash.add(machine_key()).add(kinds.key);
  hash.add(static_cast<uint64_t>(shape.batch)).add(static_cast<uint64_t>(shape.sequence)).add(static_cast<uint64_t>(shape.compute_type));
  hash.add(static_cast<uint64_t>(shape.graph)).add(static_cast<uint64_t>(shape.training));
  const std::string key = hash.hex();
  if (const auto at = known_.find(key); at != known_.end()) return at->second;
  Workspaces by_kind;
  if (file_.empty() || !recall(file_, key, kinds.representatives.size(), by_kind)) {
    by_kind = measured(model, kinds.representatives, objective, shape);
    if (!file_.empty()) remember(file_, key, by_kind);
  }
  Workspaces out = by_kind;
  out.units.clear();
  for (const size_t kind : kinds.kind_of) out.units.push_back(by_kind.units[kind]);
  extrapolated_ |= out.extrapolated;
  return known_.emplace(key, std::move(out)).first->second;
}

}  // namespace zerostep
