#include "runtime/checkpoint/data_changes.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <utility>

namespace zerostep {
namespace {

using Json = nlohmann::ordered_json;
using Values = std::vector<std::pair<std::string, std::string>>;  // path and value, as messages show them

constexpr std::array kOfAllLists{"data.catalogue",   "data.tokenizer",   "data.text_field",      "data.join_fields",
                                 "data.missing",     "data.label_field", "data.template",        "data.label_words",
                                 "data.max_samples", "data.shuffle",     "data.sequence_length", "step.query_sequence_length",
                                 "step.bp_data",     "step.bp_share"};

Json value_at(const Json& configuration, const std::string& path) {
  const size_t dot = path.find('.');
  return configuration.value(path.substr(0, dot), Json::object()).value(path.substr(dot + 1), Json());
}

void add_values(const Json& value, const std::string& path, Values& out) {
  if (value.is_object() && !value.empty()) {
    for (const auto& [name, inner] : value.items()) add_values(inner, path + "." + name, out);
  } else if (value.is_array() && !value.empty()) {
    for (size_t i = 0; i < value.size(); ++i) add_values(value[i], fmt::format("{}[{}]", path, i), out);
  } else if (!value.is_null()) {
    // A whole number as people write it: 3, not 3.0.
    out.emplace_back(path, value.is_number_float() ? fmt::format("{}", value.get<double>()) : value.dump());
  }
}

// Sources as objects, so that both ways to write one compare.
Json as_objects(Json sources) {
  if (!sources.is_array()) sources = sources.is_null() ? Json::array() : Json::array({sources});
  for (Json& source : sources) {
    if (source.is_string()) source = {{"files", source}};
    if (source.is_object() && source.contains("files") && source["files"].is_string()) source["files"] = Json::array({source["files"]});
  }
  return sources;
}

bool holds_objects(const Json& sources) {
  return sources.is_object() ||
         (sources.is_array() && std::any_of(sources.begin(), sources.end(), [](const Json& source) { return source.is_object(); }));
}

const std::string& value_of(const Values& values, const std::string& path) {
  static const std::string kMissing = "missing";
  const auto found = std::find_if(values.begin(), values.end(), [&](const auto& value) { return value.first == path; });
  return found == values.end() ? kMissing : found->second;
}

}  // namespace

std::vector<std::string> data_changes(const Json& here, const Json& in_checkpoint, const std::string& list) {
  Json sources = value_at(here, list), sources_before = value_at(in_checkpoint, list);
  if (holds_objects(sources) || holds_objects(sources_before)) {
    sources = as_objects(sources);
    sources_before = as_objects(sources_before);
  } else if (sources.is_array() != sources_before.is_array()) {
    for (Json* one : {&sources, &sources_before})
      if (one->is_string()) *one = Json::array({*one});
  }
  Values now, before;
  add_values(sources, list, now);
  add_values(sources_before, list, before);
  for (const char* path : kOfAllLists) {
    add_values(value_at(here, path), path, now);
    add_values(value_at(in_checkpoint, path), path, before);
  }
  std::vector<std::string> out;
  const auto compare = [&](const std::string& path) {
    const std::string &value = value_of(now, path), &value_before = value_of(before, path);
    if (value != value_before) out.push_back(fmt::format("{} is {} here and {} in the checkpoint", path, value, value_before));
  };
  for (const auto& [path, value] : now) compare(path);
  for (const auto& [path, value] : before)
    if (std::none_of(now.begin(), now.end(), [&, p = &path](const auto& known) { return known.first == *p; })) compare(path);
  return out;
}

}  // namespace zerostep
