#include "experiments/sweep/points.h"

#include <fmt/format.h>
#include <fnmatch.h>

#include <algorithm>
#include <set>

#include "base/content_hash.h"
#include "base/error.h"
#include "experiments/records/brief_value.h"
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

// The shortest end of a key's path that no other key of a run's file has: "mode" of step.mode.
std::string short_name(const std::string& path) {
  const auto is_shared = [&](const std::string& end) {
    const auto ends_so = [&](const schema::Key& key) {
      return key.list == schema::List::Honoured && key.path != path && key.path.find("[]") == std::string_view::npos &&
             (key.path == end || key.path.ends_with("." + end));
    };
    return std::any_of(schema::keys().begin(), schema::keys().end(), ends_so);
  };
  size_t begin = path.rfind('.');
  while (begin != std::string::npos && is_shared(path.substr(begin + 1)))
    begin = begin == 0 ? std::string::npos : path.rfind('.', begin - 1);
  return begin == std::string::npos ? path : path.substr(begin + 1);
}

// A key that is not among the resolved values, since the schema knows it by another name, is taken to have an effect.
bool has_effect(const LoadedConfig& loaded, const std::string& path) {
  const schema::Value* value = loaded.values->find(path);
  return value == nullptr || value->effective;
}

// "mode=zo,queries=8": of each value that is longer only so many characters, the end of one that has a slash.
std::string name_of(const KeyValues& values, size_t most_of_value = std::string::npos) {
  std::string out;
  for (const auto& [path, value] : values) {
    std::string text = brief(path, value);
    if (text.size() > most_of_value)
      text = text.find('/') == text.npos ? text.substr(0, most_of_value) : text.substr(text.size() - most_of_value);
    out += fmt::format("{}{}={}", out.empty() ? "" : ",", short_name(path), text);
  }
  return out.empty() ? "base" : out;
}

constexpr size_t kLongestName = 150;  // before its hash

std::string with_hash(const std::string& name, const std::string& text) {
  constexpr size_t kDigits = 8;
  return fmt::format("{}-{}", name.substr(0, kLongestName), ContentHash().add(text).hex().substr(0, kDigits));
}

// Fit for a folder, with every key. Characters that are replaced or stand between keys, what is cut, and a text that reads as another value
// ("null") may make one name of two values: a hash of the values tells them apart then. Of a list or an object its short text is the name,
// which seldom is another's too.
std::string folder_name(const KeyValues& values) {
  constexpr size_t kLeastOfValue = 8;
  const auto is_any_of = [](char c, std::string_view others) {
    return std::isalnum(static_cast<unsigned char>(c)) != 0 || others.find(c) != others.npos;
  };
  std::string name = name_of(values), exact;
  bool is_exact = name.size() <= kLongestName;
  for (size_t most = kLongestName; name.size() > kLongestName && most >= kLeastOfValue; --most) name = name_of(values, most);
  for (const auto& [path, value] : values) {
    const std::string text = plain(value);
    is_exact =
        is_exact && (value.is_structured() ? fits_brief(path, value)
                                           : !(value.is_string() && json::accept(text)) &&
                                                 std::all_of(text.begin(), text.end(), [&](char c) { return is_any_of(c, "._+-"); }));
    exact += path + "=" + value.dump() + "\n";
  }
  for (char& c : name)
    if (!is_any_of(c, "._+=,-")) c = '_';
  return is_exact ? name : with_hash(name, exact);
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

// Of the keys that the file tries on all points, or on all of some kind, those that this one does not set.
void add_shared_values(const SweepFile& sweep, SweepPoint& point) {
  const auto add = [&](const Grid& grid) {
    for (const auto& [path, values] : grid) {
      const schema::Value* value = point.loaded.values->find(path);
      if (value != nullptr && value->effective && find(point.values, path) == nullptr) point.values.emplace_back(path, value->value);
    }
  };
  add(sweep.grid);
  for (const SweepFile::When& when : sweep.whens) add(when.grid);
  add(sweep.repeat);
}

// Of a list of sources what they stand for, since a file may spell one in several ways.
json resolved_value(const schema::Values& values, const std::string& path) {
  const schema::Key* key = schema::find(path);
  if (key == nullptr || key->type.kind != schema::Kind::Sources) return values.at(path);
  json out = json::array();
  for (const SourceConfig& source : values.sources(path))
    out.push_back(
        json::array({source.name, source.files, source.split, source.text, source.skips_missing, source.weight, source.max_documents}));
  return out;
}

// What a point asks for of watching, for its own sake.
std::string watching_of(const SweepPoint& point) {
  std::string out;
  for (const auto& [path, value] : point.values)
    if (schema::is_of_watching(path) && has_effect(point.loaded, path)) out += path + "=" + value.dump() + "\n";
  return out;
}

}  // namespace

KeyValues resolved_values(const SweepPoint& point) {
  KeyValues out = point.values;
  if (!point.loaded.values) return out;
  for (auto& [path, value] : out)
    if (const schema::Value* resolved = point.loaded.values->find(path); resolved != nullptr && !resolved->value.is_null())
      value = resolved->value;
  return out;
}

RunIdentity identity_of(const LoadedConfig& loaded) {
  RunIdentity out;
  for (const auto& [path, value] : loaded.values->all()) {
    const bool is_place = path == "run.name" || path == "run.output_dir" || path == "data.cache";
    // A catalogue only gives names to sources.
    if (!value.effective || is_place || path == "data.catalogue" || schema::is_shorthand(*loaded.values, path)) continue;
    if (schema::is_of_watching(path)) continue;
    if (path == "train_micro_batch_size_per_gpu" || path == "gradient_accumulation_steps") {
      out.shares += path + "=" + value.value.dump() + "\n";
      out.says_shares = out.says_shares || loaded.values->given(path);
    } else {
      out.values += path + "=" + resolved_value(*loaded.values, path).dump() + "\n";
    }
  }
  return out;
}

bool matches(std::string_view name, std::string_view pattern) {
  return ::fnmatch(std::string(pattern).c_str(), std::string(name).c_str(), 0) == 0;
}

ResolvedPoints resolve_points(const SweepFile& sweep, const SweepBase& base, const std::vector<Setting>& set) {
  const int world = sweep.resources.ranks;
  std::vector<KeyValues> all;
  try {
    all = combinations(sweep, BaseValues(base, set, world));
    check_settings(sweep.file, all, set);
  } catch (const InputError&) {
    if (sweep.wrong_keys.empty()) throw;
    refuse_points(sweep.file, sweep.wrong_keys, {}, 0);  // it may be for want of these that they cannot be combined
  }
  ResolvedPoints out;
  std::set<std::string> taken, known;
  for (const KeyValues& values : all) {
    SweepPoint point{.name = name_of(values), .own_name = {}, .values = values, .loaded = {}, .set = set, .cache = {}};
    for (const auto& [path, value] : values) point.set.push_back({path + "=" + value.dump(), fmt::format("{} = {}", path, value.dump())});
    ConfigRequest request{.file = base.name, .set = point.set, .world = world, .text = base.text};
    request.set.push_back({"run.name=\"sweep\"", ""});
    try {
      point.loaded = load_config(request);
    } catch (const InputError& error) {
      out.errors.emplace_back(point.name, error.what());
      out.invalid.push_back(std::move(point));
      continue;
    }
    const RunIdentity identity = identity_of(point.loaded);
    if (!known.insert(identity.values + identity.shares + watching_of(point)).second) continue;
    // Tokens are made once, for all runs and for other sweeps there.
    const bool names_cache = point.loaded.values->given("data.cache");
    point.cache = names_cache ? point.loaded.config.data.cache : sweep.output_dir + "/.cache";
    if (!names_cache) point.set.push_back({"data.cache=" + json(point.cache).dump(), ""});
    std::erase_if(point.values, [&](const auto& entry) { return !has_effect(point.loaded, entry.first); });
    point.name = folder_name(point.values);
    // Two names can be the same only where the hashes of two values are.
    for (std::string text = identity.values + identity.shares; !taken.insert(point.name).second; text += '\n')
      point.name = with_hash(point.name, text);
    point.own_name = point.name;
    add_shared_values(sweep, point);
    out.points.push_back(std::move(point));
  }
  out.count = out.points.size() + num_points_of(out.errors);
  return out;
}

std::vector<SweepPoint> points_of(const SweepFile& sweep, const SweepBase& base, const std::vector<Setting>& set) {
  ResolvedPoints out = resolve_points(sweep, base, set);
  refuse_points(sweep.file, sweep.wrong_keys, out.errors, out.count);
  return std::move(out.points);
}

}  // namespace zerostep
