#include "experiments/sweep/former_base.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <set>
#include <utility>

#include "base/error.h"
#include "base/json_depth.h"
#include "base/program_name.h"
#include "experiments/records/read_file.h"
#include "experiments/records/run_record.h"
#include "runtime/config/document.h"

namespace zerostep {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

bool are_same_runs(const SweepFile& file, const std::vector<SweepPoint>& points, const SweepBase& former) {
  std::vector<SweepPoint> before;
  try {
    before = points_of(file, former, {});
  } catch (const InputError&) {
    return false;
  }
  if (before.size() != points.size()) return false;
  for (size_t i = 0; i < points.size(); ++i)
    if (!identity_of(before[i].loaded).is_same(identity_of(points[i].loaded))) return false;
  return true;
}

struct Change {
  std::string path;
  json before, now;  // discarded: it is not given
};
constexpr size_t kMostNamed = 5;

std::vector<Change> changes(const std::map<std::string, json>& before, const std::map<std::string, json>& now) {
  const auto value_in = [](const std::map<std::string, json>& values, const std::string& path) {
    const auto it = values.find(path);
    return it == values.end() ? json(json::value_t::discarded) : it->second;
  };
  std::set<std::string> paths;
  for (const auto* values : {&before, &now})
    for (const auto& [path, value] : *values) paths.insert(path);
  std::vector<Change> out;
  for (const std::string& path : paths) {
    Change change{path, value_in(before, path), value_in(now, path)};
    if (change.before.is_discarded() || change.now.is_discarded() || change.before != change.now) out.push_back(std::move(change));
  }
  return out;
}

// Of a base that makes other runs; none where it makes the same ones.
std::vector<Change> changes_of_base(const SweepFile& file, const std::vector<SweepPoint>& points, const SweepBase& former,
                                    const json& now) {
  const json before = json::parse(former.text);
  if (before == now || are_same_runs(file, points, former)) return {};
  return changes(flat(before), flat(now));
}

std::string text_of(const json& value) { return value.is_discarded() ? "not given" : schema::shown(value); }

std::string with_former_values(std::string command, const std::vector<Change>& changes) {
  for (const Change& change : changes)
    command += " --set " + shell_word(fmt::format("{}={}", change.path, change.before.is_discarded() ? "null" : change.before.dump()));
  return command;
}

}  // namespace

SweepBase former_base(const SweepFile& file) {
  const fs::path before = fs::path(file.folder()) / "sweep.json";
  std::error_code error;
  json former;
  if (fs::is_regular_file(before, error)) former = json::parse(unless_too_deep(read_file(before)), nullptr, false);
  if (!former.is_object() || !former.contains("base"))
    fail_input("--resume: {} is missing or damaged, which tells what the sweep began with: put it back, or give the sweep another name",
               before.string());
  return {before.string() + ": base", former["base"].dump()};
}

void require_same_base(const SweepFile& file, const std::vector<SweepPoint>& points, const SweepBase& former, const json& now,
                       const std::string& command) {
  const std::vector<Change> all = changes_of_base(file, points, former, now);
  if (all.empty()) return;
  std::string named;
  for (size_t i = 0; i < std::min(all.size(), kMostNamed); ++i)
    named += fmt::format("{}{} is {} and was {}", i == 0 ? "" : "; ", all[i].path, text_of(all[i].now), text_of(all[i].before));
  if (all.size() > kMostNamed) named += fmt::format("; and {} more", all.size() - kMostNamed);
  fail_input(
      "--resume: the base of {} (with --set) is not the one that the sweep in {} began with (its sweep.json has that): {}. {}, or give the "
      "sweep another name",
      file.file, file.folder(), named,
      all.size() > kMostNamed ? "Take that back" : fmt::format("`{}` goes on with what it was", with_former_values(command, all)));
}

std::string resuming_command(const SweepFile& file, const std::vector<SweepPoint>& points, const SweepBase& former, const json& now,
                             const std::string& command) {
  const std::vector<Change> all = changes_of_base(file, points, former, now);
  return all.size() > kMostNamed ? "" : with_former_values(command + " --resume", all);
}

}  // namespace zerostep
