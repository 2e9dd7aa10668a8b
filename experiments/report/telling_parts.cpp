#include "experiments/report/telling_parts.h"

#include <algorithm>
#include <filesystem>

#include "base/error.h"
#include "experiments/records/read_file.h"

namespace zerostep {
namespace fs = std::filesystem;
namespace {

constexpr const char* kModePath = "step.mode";

void add_keys(const nlohmann::json& block, std::set<std::string>& out) {
  if (!block.is_object()) return;
  for (const auto& [path, value] : block.items()) out.insert(path);
}

const nlohmann::json& part(const nlohmann::json& root, const char* name) {
  static const nlohmann::json kNone;
  const auto it = root.is_object() ? root.find(name) : root.end();
  return root.is_object() && it != root.end() ? *it : kNone;
}

// Whether some modes lack the key and all runs of the others have one value of it.
bool follows_from_mode(const std::string& key, const std::vector<std::map<std::string, std::string>>& values) {
  std::map<std::string, std::set<std::string>> of_mode;
  std::set<std::string> all;
  for (const auto& own : values) {
    const auto mode = own.find(kModePath), it = own.find(key);
    const std::string value = it == own.end() ? "" : it->second;
    of_mode[mode == own.end() ? "" : mode->second].insert(value);
    if (!value.empty()) all.insert(value);
  }
  return key != kModePath && all.size() <= 1 &&
         std::all_of(of_mode.begin(), of_mode.end(), [](const auto& mode) { return mode.second.size() == 1; });
}

}  // namespace

std::optional<std::set<std::string>> keys_of_sweep(const std::vector<PlotRun>& runs, const std::vector<AbsentRun>& absent) {
  std::set<fs::path> sweeps;
  std::error_code ignored;
  for (const PlotRun& run : runs)
    sweeps.insert(run.record.folder.empty() ? fs::path() : fs::weakly_canonical(run.record.folder, ignored).parent_path());
  for (const AbsentRun& run : absent) sweeps.insert(fs::weakly_canonical(run.record.folder, ignored).parent_path());
  if (sweeps.size() != 1 || sweeps.begin()->empty()) return std::nullopt;
  const fs::path file = *sweeps.begin() / "sweep.json";
  if (!fs::is_regular_file(file, ignored)) return std::nullopt;
  nlohmann::json root;
  try {
    root = nlohmann::json::parse(read_file(file), nullptr, false);
  } catch (const std::exception&) {  // the table is not worth a report's failure
  }
  if (!root.is_object()) return std::nullopt;
  std::set<std::string> out;
  add_keys(part(root, "grid"), out);
  add_keys(part(root, "repeat"), out);
  if (part(root, "when").is_array())
    for (const nlohmann::json& when : part(root, "when")) add_keys(part(when, "grid"), out);
  if (part(root, "runs").is_array())
    for (const nlohmann::json& run : part(root, "runs")) add_keys(run, out);
  return out;
}

std::set<std::string> following_keys(const std::vector<std::string>& differing,
                                     const std::vector<std::map<std::string, std::string>>& values,
                                     const std::optional<std::set<std::string>>& swept) {
  std::set<std::string> out;
  for (const std::string& key : differing)
    if (swept ? !swept->contains(key) : follows_from_mode(key, values)) out.insert(key);
  if (out.size() == differing.size()) out.clear();
  return out;
}

}  // namespace zerostep
