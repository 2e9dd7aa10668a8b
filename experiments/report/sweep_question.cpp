#include "experiments/report/sweep_question.h"

#include <fmt/format.h>

#include "base/json_depth.h"
#include "experiments/records/brief_value.h"
#include "experiments/records/read_file.h"

namespace zerostep {
namespace fs = std::filesystem;
namespace {

using nlohmann::json;

constexpr size_t kMostValues = 12, kMostParts = 12;

// "1, 8, 64": of a key that is tried with several values.
std::string text_of_values(const std::string& path, const json& values) {
  if (!values.is_array()) return brief(path, values);
  std::string out;
  for (size_t i = 0; i < values.size() && i < kMostValues; ++i) out += (i > 0 ? ", " : "") + brief(path, values[i]);
  return values.size() > kMostValues ? fmt::format("{} and {} more", out, values.size() - kMostValues) : out;
}

// "step.mode fo, zo; seed 1, 2".
std::string text_of_grid(const json& grid) {
  std::string out;
  if (!grid.is_object()) return out;
  for (const auto& [path, values] : grid.items()) out += (out.empty() ? "" : "; ") + path + " " + text_of_values(path, values);
  return out;
}

// "step.mode fo, seed 1": keys with one value each.
std::string text_of_keys(const std::map<std::string, json>& values) {
  std::string out;
  for (const auto& [path, value] : values) out += (out.empty() ? "" : ", ") + path + " " + brief(path, value);
  return out;
}
std::string text_of_keys(const json& block) {
  return block.is_object() ? text_of_keys(block.get<std::map<std::string, json>>()) : std::string();
}

std::string text_of_search(const json& search) {
  const json &metric = part_of(search, "metric"), &keep = part_of(search, "keep");
  return fmt::format("the best {} by {} go on, at {} steps", keep.is_null() ? "0.5" : plain(keep),
                     metric.is_null() ? "loss" : plain(metric), text_of_values("", part_of(search, "rungs")));
}

}  // namespace

const json& part_of(const json& block, const char* name) {
  static const json kNone;
  const auto it = block.is_object() ? block.find(name) : block.end();
  return block.is_object() && it != block.end() ? *it : kNone;
}

SweepQuestion question_of(const json& sweep) {
  SweepQuestion out;
  if (part_of(sweep, "name").is_string()) out.name = part_of(sweep, "name").get<std::string>();
  if (part_of(sweep, "asks").is_string()) out.asks = part_of(sweep, "asks").get<std::string>();
  const auto add = [&](const char* name, std::string text) {
    if (!text.empty()) out.parts.emplace_back(name, std::move(text));
  };
  const auto add_each = [&](const char* name, const auto& text_of) {
    const json& all = part_of(sweep, name);
    for (size_t i = 0; all.is_array() && i < all.size(); ++i) {
      if (i == kMostParts) return add(name, fmt::format("and {} more", all.size() - kMostParts));
      add(name, text_of(all[i]));
    }
  };
  add("grid", text_of_grid(part_of(sweep, "grid")));
  add_each("when", [](const json& when) { return text_of_keys(part_of(when, "if")) + ": " + text_of_grid(part_of(when, "grid")); });
  add_each("runs", [](const json& run) { return text_of_keys(run); });
  add("repeat", text_of_grid(part_of(sweep, "repeat")));
  if (part_of(sweep, "search").is_object()) add("search", text_of_search(part_of(sweep, "search")));
  add("base", text_of_keys(flat(part_of(sweep, "base"))));
  return out;
}

json sweep_in(const fs::path& folder, std::string* why_not) {
  const fs::path file = folder / "sweep.json";
  std::error_code error;
  if (!fs::is_regular_file(file, error)) return nullptr;
  try {
    json root = json::parse(unless_too_deep(read_file(file)), nullptr, false);
    if (root.is_object()) return root;
    if (why_not != nullptr) *why_not = file.string() + " is damaged: a JSON object is expected";
  } catch (const std::exception& error) {  // what a sweep was asked is not worth a report's failure
    if (why_not != nullptr) *why_not = error.what();
  }
  return nullptr;
}

std::set<fs::path> folders_of_runs(const std::vector<PlotRun>& runs, const std::vector<AbsentRun>& absent) {
  std::set<fs::path> out;
  std::error_code ignored;
  for (const PlotRun& run : runs)
    out.insert(run.record.folder.empty() ? fs::path() : fs::weakly_canonical(run.record.folder, ignored).parent_path());
  for (const AbsentRun& run : absent) out.insert(fs::weakly_canonical(run.record.folder, ignored).parent_path());
  return out;
}

std::vector<SweepQuestion> sweep_questions(const std::vector<PlotRun>& runs, const std::vector<AbsentRun>& absent,
                                           std::vector<std::string>& notes) {
  std::vector<SweepQuestion> out;
  for (const fs::path& folder : folders_of_runs(runs, absent)) {
    if (folder.empty()) continue;
    std::string why_not;
    if (const json sweep = sweep_in(folder, &why_not); sweep.is_object()) out.push_back(question_of(sweep));
    if (!why_not.empty()) notes.push_back("what a sweep was asked is not known: " + why_not);
  }
  return out;
}

}  // namespace zerostep
