#include <fmt/format.h>

#include "base/error.h"
#include "runtime/config/values.h"

namespace zerostep::schema {
namespace {

using nlohmann::json;

std::vector<std::string> split_path(std::string_view path) {
  std::vector<std::string> names;
  for (size_t begin = 0; begin <= path.size();) {
    const size_t dot = std::min(path.find('.', begin), path.size());
    names.emplace_back(path.substr(begin, dot - begin));
    begin = dot + 1;
  }
  return names;
}

json* find_node(json& root, const std::vector<std::string>& names) {
  json* node = &root;
  for (const std::string& name : names) {
    if (!node->is_object() || !node->contains(name)) return nullptr;
    node = &(*node)[name];
  }
  return node;
}

void erase_node(json& root, std::vector<std::string> names) {
  const std::string last = names.back();
  names.pop_back();
  json* parent = find_node(root, names);
  if (parent && parent->is_object()) parent->erase(last);
}

// `zero_optimization` was once a switch, and the tiers have one each in older files: the blocks that these stand for.
json stage_block(bool is_on) { return json::object({{"stage", is_on ? 1 : 0}}); }
json offload_block(bool is_on) { return json::object({{"device", is_on ? "cpu" : "none"}}); }

// A block that is left to defaults as one, "auto" or null, or stands in its old form becomes one in which a key can be set.
void open_block(const std::string& path, json& node) {
  if (is_block(path) && (node.is_null() || node == json("auto"))) node = json::object();
  if (path == "zero_optimization" && node.is_boolean()) node = stage_block(node.get<bool>());
}

// Whether one path is another or lies below it.
bool is_within(std::string_view path, std::string_view whole) {
  return path.starts_with(whole) && (path.size() == whole.size() || path[whole.size()] == '.' || path[whole.size()] == '[');
}

// Nothing is known any more of where a path and what is below it stand.
void forget_places(Document& document, std::string_view whole) {
  std::erase_if(document.where, [&](const auto& entry) { return is_within(entry.first, whole); });
  std::erase_if(document.written_as, [&](const auto& entry) { return is_within(entry.first, whole); });
}

// What `where` knows of a path and of all below it moves with it.
void move_places(Document& document, const std::string& from, const std::string& to) {
  forget_places(document, to);
  document.written_as[to] = from;
  std::map<std::string, std::string> moved;
  for (const auto& [path, place] : document.where) {
    if (is_within(path, from)) moved[path] = place;
  }
  for (const auto& [path, place] : moved) {
    const std::string now = to + path.substr(from.size());
    document.where[now] = place;
    document.written_as[now] = path;
  }
}

// The node of a key, given as `value` under another name of it, goes under its own name.
void rename_node(Document& document, std::string_view from, std::string_view to, json value) {
  erase_node(document.root, split_path(from));
  json* node = &document.root;
  for (const std::string& name : split_path(to)) node = &(*node)[name];
  *node = std::move(value);
  move_places(document, std::string(from), std::string(to));
}

// VALUE is JSON, else a string; 2024 and true are strings where the key takes nothing but texts that are no paths.
json parse_value(const std::string& path, const std::string& text, const std::string& from) {
  const Key* key = find(path);
  const bool takes_sources = key != nullptr && key->type.kind == Kind::Sources;
  const bool takes_texts = takes_sources || (key != nullptr && (key->type.kind == Kind::Text || key->type.kind == Kind::Texts));
  json value;
  try {
    value = parse_document(text, from).root;
  } catch (const InputError&) {
    // Patterns and templates begin with brackets too.
    const bool is_pattern = takes_sources ? text.find('"') == std::string::npos : takes_texts;
    const bool is_meant_as_json = is_known(path) && !is_pattern && text.find_first_of("{[") == 0;
    if (is_meant_as_json || json::accept(text)) throw;
    return text;
  }
  return takes_texts && !key->type.is_path && (value.is_number() || value.is_boolean()) ? json(text) : value;
}

}  // namespace

void apply_setting(Document& document, const Setting& setting) {
  const std::string &text = setting.text, &from = setting.from;
  if (!is_utf8(text)) fail_input("{}: holds bytes that are not UTF-8, in which names and values are written", printable(from));
  const size_t equals = text.find('=');
  if (equals == std::string::npos || equals == 0) fail_input("{}: expected PATH=VALUE, as in --set zero_optimization.stage=2", from);
  const std::string path = text.substr(0, equals);
  const json value = parse_value(path, text.substr(equals + 1), from);
  const std::vector<std::string> names = split_path(path);
  constexpr size_t kMostNames = 32;
  if (names.size() > kMostNames) fail_input("{}: {} names in a path; no key lies deeper than 4", from, names.size());
  for (const std::string& name : names) {
    if (name.empty()) fail_input("{}: the path {} holds an empty name; expected names joined by dots", from, path);
  }
  // The other spellings of the key go, or the setting would contradict the file.
  for (const Alias& alias : aliases()) {
    for (const auto& [mine, other] : {std::pair(alias.from, alias.to), std::pair(alias.to, alias.from)}) {
      if (path == mine) erase_node(document.root, split_path(other));
      json* old = path.starts_with(std::string(mine) + ".") ? find_node(document.root, split_path(other)) : nullptr;
      if (old == nullptr || (alias.is_switch && !old->is_boolean())) continue;
      if (find_node(document.root, split_path(mine)) != nullptr) continue;  // the file contradicts itself, which is told later
      rename_node(document, other, mine, alias.is_switch ? offload_block(old->get<bool>()) : *old);
    }
  }
  forget_places(document, path);
  if (!from.empty()) document.where[path] = from;
  // What the schema and the file both do not know is told as any unknown key is.
  if (value.is_null() && (is_known(path) || find_node(document.root, names) != nullptr)) {
    erase_node(document.root, names);
    return;
  }
  json* node = &document.root;
  std::string walked;
  for (size_t i = 0; i < names.size(); ++i) {
    walked += (i == 0 ? "" : ".") + names[i];
    if (!node->is_object()) {
      const std::string whole = walked.substr(0, walked.rfind('.'));
      fail_input("{}: {} is {} in {}, not a block that could hold {}", from, whole, shown(*node), document.place(whole), names[i]);
    }
    if (!node->contains(names[i])) {
      (*node)[names[i]] = json::object();
      if (!from.empty() && !is_known(walked)) document.where[walked] = from;
    }
    node = &(*node)[names[i]];
    open_block(walked, *node);
  }
  *node = value;
}

Document read_document(const std::string& file, const std::vector<Setting>& set, const std::optional<std::string>& text) {
  Document document = text ? parse_document(*text, file) : read_document(file);
  for (const Setting& setting : set) apply_setting(document, setting);
  return document;
}

void apply_aliases(Document& document, Findings& findings) {
  json& root = document.root;
  if (root.contains("zero_optimization") && root["zero_optimization"].is_boolean()) {
    const bool on = root["zero_optimization"].get<bool>();
    findings.warn(fmt::format("{}: zero_optimization: {} is an old form; it is read as {{\"stage\": {}}}",
                              document.place("zero_optimization"), on, on ? 1 : 0));
    root["zero_optimization"] = stage_block(on);
  }
  for (const Alias& alias : aliases()) {
    const auto from = split_path(alias.from), to = split_path(alias.to);
    const auto warn = [&] {
      if (alias.deprecated) findings.warn(fmt::format("{}: {} is deprecated: use {}", document.place(alias.from), alias.from, alias.to));
    };
    json* old = find_node(root, from);
    if (!old) {
      if (document.spelling(alias.to) == alias.from) warn();  // a setting within it has moved it already
      continue;
    }
    if (find_node(root, to)) {
      findings.error(alias.from, fmt::format("and {} are two names of one key, and both are given: keep {}", alias.to, alias.to));
      erase_node(root, from);
      continue;
    }
    json value = *old;
    if (alias.is_switch) {
      if (!value.is_boolean() && !value.is_null()) {
        findings.error(alias.from, fmt::format("is {}; expected true or false", shown(value)));
        erase_node(root, from);
        continue;
      }
      value = offload_block(value == json(true));
    }
    warn();
    rename_node(document, alias.from, alias.to, std::move(value));
  }
}

}  // namespace zerostep::schema
