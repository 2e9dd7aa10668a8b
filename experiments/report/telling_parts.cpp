#include "experiments/report/telling_parts.h"

#include <algorithm>
#include <map>

#include "experiments/report/sweep_question.h"

namespace zerostep {
namespace {

constexpr const char* kModePath = "step.mode";

void add_keys(const nlohmann::json& block, std::set<std::string>& out) {
  if (!block.is_object()) return;
  for (const auto& [path, value] : block.items()) out.insert(path);
}

// Whether some modes lack the key and all runs of the others have one value of it, as far as that is known.
bool follows_from_mode(const std::string& key, const std::vector<RunKeys>& keys) {
  std::map<std::string, std::set<std::string>> of_mode;
  std::set<std::string> all;
  for (const RunKeys& run : keys) {
    if (!run.knows(key)) continue;
    const std::string& value = run.value(key);
    of_mode[run.value(kModePath)].insert(value);
    if (!value.empty()) all.insert(value);
  }
  return key != kModePath && all.size() <= 1 &&
         std::all_of(of_mode.begin(), of_mode.end(), [](const auto& mode) { return mode.second.size() == 1; });
}

std::set<std::string> keys_of(const nlohmann::json& root) {
  std::set<std::string> out;
  add_keys(part_of(root, "grid"), out);
  add_keys(part_of(root, "repeat"), out);
  if (part_of(root, "when").is_array())
    for (const nlohmann::json& when : part_of(root, "when")) add_keys(part_of(when, "grid"), out);
  if (part_of(root, "runs").is_array())
    for (const nlohmann::json& run : part_of(root, "runs")) add_keys(run, out);
  return out;
}

}  // namespace

std::set<std::string> keys_of_sweep(const std::filesystem::path& folder) { return keys_of(sweep_in(folder)); }

std::optional<std::set<std::string>> keys_of_sweep(const std::vector<PlotRun>& runs, const std::vector<AbsentRun>& absent) {
  const std::set<std::filesystem::path> sweeps = folders_of_runs(runs, absent);
  if (sweeps.size() != 1 || sweeps.begin()->empty()) return std::nullopt;
  const nlohmann::json root = sweep_in(*sweeps.begin());
  return root.is_null() ? std::nullopt : std::optional(keys_of(root));
}

std::set<std::string> following_keys(const std::vector<std::string>& differing, const std::vector<RunKeys>& keys,
                                     const std::optional<std::set<std::string>>& swept) {
  std::set<std::string> out;
  for (const std::string& key : differing)
    if (swept ? !swept->contains(key) : follows_from_mode(key, keys)) out.insert(key);
  if (out.size() == differing.size()) out.clear();
  return out;
}

}  // namespace zerostep
