#include "experiments/sweep/former_base.h"

#include <fmt/format.h>

#include <filesystem>
#include <map>
#include <optional>
#include <set>

#include "base/error.h"
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
  const json *before, *now;  // nullptr: it is not given
};

std::vector<Change> changes(const std::map<std::string, json>& before, const std::map<std::string, json>& now) {
  const auto value_in = [](const std::map<std::string, json>& values, const std::string& path) {
    const auto it = values.find(path);
    return it == values.end() ? nullptr : &it->second;
  };
  std::set<std::string> paths;
  for (const auto* values : {&before, &now})
    for (const auto& [path, value] : *values) paths.insert(path);
  std::vector<Change> out;
  for (const std::string& path : paths) {
    const json *was = value_in(before, path), *is = value_in(now, path);
    if (was == nullptr || is == nullptr || *was != *is) out.push_back({path, was, is});
  }
  return out;
}

std::string text_of(const json* value) { return value == nullptr ? "not given" : schema::shown(*value); }

}  // namespace

SweepBase former_base(const SweepFile& file) {
  const fs::path before = fs::path(file.folder()) / "sweep.json";
  std::error_code error;
  json former;
  if (fs::is_regular_file(before, error)) former = json::parse(read_file(before), nullptr, false);
  if (!former.is_object() || !former.contains("base"))
    fail_input("--resume: {} is missing or damaged, which tells what the sweep began with: put it back, or give the sweep another name",
               before.string());
  return {before.string() + ": base", former["base"].dump()};
}

void require_same_base(const SweepFile& file, const std::vector<SweepPoint>& points, const SweepBase& former, const json& now,
                       const std::string& command) {
  constexpr size_t kMostNamed = 5;
  const json before = json::parse(former.text);
  if (before == now || are_same_runs(file, points, former)) return;
  const std::map<std::string, json> was = flat(before), is = flat(now);
  const std::vector<Change> all = changes(was, is);
  std::string named, goes_on = command;
  for (size_t i = 0; i < std::min(all.size(), kMostNamed); ++i) {
    const auto& [path, value_before, value_now] = all[i];
    named += fmt::format("{}{} is {} and was {}", i == 0 ? "" : "; ", path, text_of(value_now), text_of(value_before));
    goes_on += " --set " + shell_word(fmt::format("{}={}", path, value_before == nullptr ? "null" : value_before->dump()));
  }
  if (all.size() > kMostNamed) named += fmt::format("; and {} more", all.size() - kMostNamed);
  fail_input(
      "--resume: the base of {} (with --set) is not the one that the sweep in {} began with (its sweep.json has that): {}. {}, or "
      "give the sweep another name",
      file.file, file.folder(), named, all.size() > kMostNamed ? "Take that back" : fmt::format("`{}` goes on with what it was", goes_on));
}

}  // namespace zerostep
