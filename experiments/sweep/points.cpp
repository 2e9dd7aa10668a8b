#include "experiments/sweep/points.h"

#include <fmt/format.h>
#include <fnmatch.h>

#include <algorithm>
#include <map>
#include <set>

#include "base/content_hash.h"
#include "base/error.h"
#include "experiments/records/run_record.h"
#include "runtime/config/values.h"

namespace zerostep {
namespace {

using nlohmann::json;

const json* find(const KeyValues& values, std::string_view path) {
  for (const auto& [key, value] : values)
    if (key == path) return &value;
  return nullptr;
}

// Of two values of one key the later counts.
void put(KeyValues& values, const std::string& path, const json& value) {
  for (auto& [key, old] : values)
    if (key == path) {
      old = value;
      return;
    }
  values.emplace_back(path, value);
}

// Each of `points` with every combination of a grid.
std::vector<KeyValues> product(const std::vector<KeyValues>& points, const Grid& grid) {
  std::vector<KeyValues> out = points;
  for (const auto& [path, values] : grid) {
    std::vector<KeyValues> longer;
    for (const KeyValues& point : out)
      for (const json& value : values) {
        longer.push_back(point);
        put(longer.back(), path, value);
      }
    out = std::move(longer);
  }
  return out;
}

// What the configuration of the base says of a key, for conditions on keys that a point does not set.
class BaseValues {
 public:
  BaseValues(const SweepBase& base, const std::vector<Setting>& set, int world) {
    try {
      loaded_ = load_config({.file = base.name, .set = set, .world = world, .text = base.text});
    } catch (const InputError&) {  // the points set what it lacks, or their errors tell
    }
  }
  json at(const std::string& path) const {
    const schema::Value* value = loaded_.values ? loaded_.values->find(path) : nullptr;
    return value == nullptr ? json() : value->value;
  }

 private:
  LoadedConfig loaded_;
};

std::vector<KeyValues> combinations(const SweepFile& sweep, const BaseValues& base) {
  std::vector<KeyValues> out;
  std::vector<bool> is_used(sweep.whens.size(), false);
  if (!sweep.grid.empty() || sweep.runs.empty())
    for (const KeyValues& point : product({{}}, sweep.grid)) {
      std::vector<KeyValues> here{point};
      for (size_t i = 0; i < sweep.whens.size(); ++i) {
        const SweepFile::When& when = sweep.whens[i];
        const bool applies = std::all_of(when.conditions.begin(), when.conditions.end(), [&](const auto& condition) {
          const json* given = find(point, condition.first);
          return (given != nullptr ? *given : base.at(condition.first)) == condition.second;
        });
        if (applies) here = product(here, when.grid);
        if (applies) is_used[i] = true;
      }
      out.insert(out.end(), here.begin(), here.end());
    }
  for (size_t i = 0; i < is_used.size(); ++i)
    if (!is_used[i]) fail_input("{}: when[{}].if: no point of `grid` has these values", sweep.file, i);
  out.insert(out.end(), sweep.runs.begin(), sweep.runs.end());
  return product(out, sweep.repeat);
}

// The shortest ends of the swept keys' paths that tell them apart: "mode" of step.mode.
std::map<std::string, std::string> short_names(const std::vector<KeyValues>& points) {
  std::set<std::string> paths;
  for (const KeyValues& point : points)
    for (const auto& [path, value] : point) paths.insert(path);
  std::map<std::string, std::string> out;
  for (const std::string& path : paths) {
    size_t begin = path.rfind('.');
    const auto is_shared = [&](const std::string& end) {
      return std::count_if(paths.begin(), paths.end(),
                           [&](const std::string& other) { return other == end || other.ends_with("." + end); }) > 1;
    };
    while (begin != std::string::npos && is_shared(path.substr(begin + 1)))
      begin = begin == 0 ? std::string::npos : path.rfind('.', begin - 1);
    out[path] = begin == std::string::npos ? path : path.substr(begin + 1);
  }
  return out;
}

// Fit for the name of a folder.
std::string folder_name(const std::string& text) {
  constexpr size_t kLongest = 150;
  std::string out;
  for (char c : text)
    out += std::isalnum(static_cast<unsigned char>(c)) || std::string_view("._+=,-").find(c) != std::string_view::npos ? c : '_';
  if (out.size() <= kLongest) return out;
  return fmt::format("{}-{}", out.substr(0, kLongest), ContentHash().add(text).hex().substr(0, 8));
}

// A key that the schema knows by another name, or that is not among the resolved values, is taken to have an effect.
bool has_effect(const LoadedConfig& loaded, const std::string& path) {
  const schema::Value* value = loaded.values->find(path);
  return value == nullptr || value->effective;
}

std::string name_of(const KeyValues& values, const std::map<std::string, std::string>& names, const LoadedConfig* loaded) {
  std::string out;
  for (const auto& [path, value] : values)
    if (loaded == nullptr || has_effect(*loaded, path)) out += fmt::format("{}{}={}", out.empty() ? "" : ",", names.at(path), plain(value));
  return out.empty() ? "base" : out;
}

void check_settings(const std::string& sweep, const std::vector<KeyValues>& points, const std::vector<Setting>& set) {
  for (const Setting& setting : set) {
    const std::string path = setting.text.substr(0, setting.text.find('='));
    if (path == "run.name" || path == "run.output_dir")
      fail_input("{}: each run has a folder of its own below the sweep's output_dir and name: set these in {}", setting.from, sweep);
    for (const KeyValues& point : points)
      if (find(point, path) != nullptr)
        fail_input("{}: {} is swept by the file; --set changes every point: take one of the two away", setting.from, path);
  }
}

// What all points have in common is said once.
std::string wrong_points(const std::string& file, const std::vector<std::pair<std::string, std::string>>& errors, size_t points) {
  std::string text = fmt::format("{}: {} of {} points {} no valid run, and nothing was started", file, errors.size(), points,
                                 errors.size() == 1 ? "is" : "are");
  const bool is_shared =
      std::all_of(errors.begin(), errors.end(), [&](const auto& error) { return error.second == errors.front().second; });
  if (is_shared && errors.size() == points) return fmt::format("{}: every point: {}", text, errors.front().second);
  for (const auto& [name, what] : errors) text += fmt::format("\n  {}: {}", name, what);
  return text;
}

}  // namespace

std::string identity_of(const LoadedConfig& loaded) {
  std::string out;
  for (const auto& [path, value] : loaded.values->all()) {
    const bool is_place = path == "run.name" || path == "run.output_dir" || path == "data.cache";
    // How ranks share a batch out: where the file does not say it, it follows from their number, and the batch is the same.
    const bool is_share = path == "train_micro_batch_size_per_gpu" || path == "gradient_accumulation_steps";
    if (value.effective && !is_place && (!is_share || loaded.values->given(path))) out += path + "=" + value.value.dump() + "\n";
  }
  return out;
}

bool matches(std::string_view name, std::string_view pattern) {
  return ::fnmatch(std::string(pattern).c_str(), std::string(name).c_str(), 0) == 0;
}

std::vector<SweepPoint> points_of(const SweepFile& sweep, const SweepBase& base, const std::vector<Setting>& set) {
  const int world = sweep.resources.ranks;
  const std::vector<KeyValues> all = combinations(sweep, BaseValues(base, set, world));
  check_settings(sweep.file, all, set);
  const std::map<std::string, std::string> names = short_names(all);
  std::vector<SweepPoint> out;
  std::vector<std::pair<std::string, std::string>> errors;  // of a point by its name
  std::map<std::string, int> taken;
  std::set<std::string> known;
  for (const KeyValues& values : all) {
    SweepPoint point{.name = name_of(values, names, nullptr), .own_name = {}, .values = values, .loaded = {}, .set = set};
    for (const auto& [path, value] : values) point.set.push_back({path + "=" + value.dump(), fmt::format("{} = {}", path, value.dump())});
    ConfigRequest request{.file = base.name, .set = point.set, .world = world, .text = base.text};
    request.set.push_back({"run.name=\"sweep\"", ""});
    try {
      point.loaded = load_config(request);
    } catch (const InputError& error) {
      errors.emplace_back(point.name, error.what());
      continue;
    }
    if (!known.insert(identity_of(point.loaded)).second) continue;
    // Tokens are made once, for all runs and for other sweeps there.
    if (!point.loaded.values->given("data.cache")) point.set.push_back({"data.cache=" + json(sweep.output_dir + "/.cache").dump(), ""});
    point.name = folder_name(name_of(values, names, &point.loaded));
    if (const int count = ++taken[point.name]; count > 1) point.name += fmt::format("-{}", count);
    point.own_name = point.name;
    out.push_back(std::move(point));
  }
  if (!errors.empty()) throw InputError(wrong_points(sweep.file, errors, all.size()));
  return out;
}

}  // namespace zerostep
