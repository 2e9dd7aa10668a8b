#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>
#include <optional>

#include "base/nearest_name.h"
#include "base/program_name.h"
#include "runtime/config/values.h"

namespace zerostep::schema {
namespace {

using nlohmann::json;

constexpr size_t kMostListed = 12;

// Decimal strings stand for numbers; so do whole floats for integers.
std::optional<double> as_number(const json& value) {
  if (value.is_number()) return value.get<double>();
  if (!value.is_string()) return std::nullopt;
  const auto& text = value.get_ref<const std::string&>();
  double number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc{} || end != text.data() + text.size() || !std::isfinite(number)) return std::nullopt;
  return number;
}

std::optional<int64_t> as_integer(const json& value) {
  if (value.is_number_unsigned()) {
    const auto number = value.get<uint64_t>();
    if (number > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) return std::nullopt;
    return static_cast<int64_t>(number);
  }
  if (value.is_number_integer()) return value.get<int64_t>();
  if (value.is_string()) {
    const auto& text = value.get_ref<const std::string&>();
    int64_t number = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (error == std::errc{} && end == text.data() + text.size()) return number;
  }
  const auto number = as_number(value);
  constexpr double kBeyond = 9223372036854775808.0;  // 2^63
  if (!number || std::trunc(*number) != *number || *number >= kBeyond || *number < -kBeyond) return std::nullopt;
  return static_cast<int64_t>(*number);
}

bool inside(const Type& type, double number) {
  const bool above = type.open_min ? number > type.min : number >= type.min;
  const bool below = type.open_max ? number < type.max : number <= type.max;
  return above && below;
}

bool is_text(const json& value) { return value.is_string() && !value.get_ref<const std::string&>().empty(); }

// The value in the schema's own form, or nothing when it is not of the type.
std::optional<json> normalised(const Type& type, const json& value) {
  switch (type.kind) {
    case Kind::Bool:
      if (value.is_boolean()) return value;
      return std::nullopt;
    case Kind::Integer:
      if (!type.word.empty() && value == json(type.word)) return value;
      if (const auto number = as_integer(value); number && *number >= type.low && *number <= type.high) return json(*number);
      return std::nullopt;
    case Kind::Number:
      if (const auto number = as_number(value); number && inside(type, *number)) return json(*number + 0.0);
      return std::nullopt;
    case Kind::Text:
      if (value.is_string()) return value;
      return std::nullopt;
    case Kind::Texts: {
      if (value.is_string()) return is_text(value) ? std::optional(json::array({value})) : std::nullopt;
      if (!value.is_array() || !std::all_of(value.begin(), value.end(), is_text)) return std::nullopt;
      return value;
    }
    case Kind::Pair: {
      if (!value.is_array() || value.size() != 2) return std::nullopt;
      json two = json::array();
      for (const json& element : value) {
        const auto number = as_number(element);
        if (!number || !inside(type, *number)) return std::nullopt;
        two.push_back(*number);
      }
      return two;
    }
    case Kind::Choice: {
      if (!value.is_string()) return std::nullopt;
      for (std::string_view choice : split_words(type.choices)) {
        if (edit_distance(choice, value.get_ref<const std::string&>(), 0) == 0) return json(choice);  // without case
      }
      return std::nullopt;
    }
    case Kind::Sources:  // block by block: see Checker::sources
    case Kind::Anything:
      return value;
  }
  return std::nullopt;
}

bool is_off(const json& value) {
  if (value == json(false)) return true;
  if (!value.is_object()) return false;
  return !value.contains("enabled") || value["enabled"] == json(false);
}

bool is_harmless(const Key& key, const json& value) {
  if (value.is_null()) return true;
  if (key.harmless == "off") return is_off(value);
  if (key.harmless.empty()) return false;
  const json list = json::parse(key.harmless);
  return std::find(list.begin(), list.end(), value) != list.end();
}

class Checker {
 public:
  Checker(const Document& document, Findings& findings) : document_(document), findings_(findings) {
    const json& root = document.root;
    if (root.contains("strict") && root["strict"].is_boolean()) strict_ = root["strict"].get<bool>();
    optimizer_ = type_in("optimizer", "AdamW");
    scheduler_ = type_in("scheduler", "");
    family_ = family();
  }

  Values run() {
    block(document_.root, "", "");
    for (const auto& [source, names] : ineffective_) {
      const auto& [reason, setting] = source;
      findings_.warn(fmt::format("{}: {} {} no effect: {}", setting.empty() ? document_.file : setting, listed(names, names.size()),
                                 names.size() == 1 ? "has" : "have", reason));
    }
    return std::move(values_);
  }

 private:
  // The type that decides which parameters a block may hold, in the schema's spelling; "" when it is not valid.
  std::string type_in(const std::string& name, const std::string& fallback) const {
    const json& root = document_.root;
    if (!root.contains(name) || !root[name].is_object() || !root[name].contains("type")) return fallback;
    const json& given = root[name]["type"];
    if (given.is_null() || given == json("auto")) return fallback;
    const auto type = normalised(find(name + ".type")->type, given);
    return type ? type->get<std::string>() : "";
  }

  // The family whose sizes `model` may hold; "" when a directory says them, or when it is not valid.
  std::string family() const {
    const json& root = document_.root;
    if (!root.contains("model") || !root["model"].is_object()) return "gpt2";
    const json& model = root["model"];
    if (model.contains("path") && !model["path"].is_null()) return "";
    if (!model.contains("family") || model["family"].is_null() || model["family"] == json("auto")) return "gpt2";
    const auto known = normalised(find("model.family")->type, model["family"]);
    return known ? known->get<std::string>() : "";
  }

  // `path` as in the file, `place` as in the schema ("optimizer.groups[0].patterns", "optimizer.groups[].patterns").
  void block(const json& object, const std::string& path, const std::string& place) {
    for (const auto& [name, value] : object.items()) {
      const std::string dot = path.empty() ? "" : ".";
      // A dot inside a name is no path: {"a.b": 1} is not {"a": {"b": 1}}.
      const bool plain = name.find_first_of(".[]") == std::string::npos;
      if (plain) {
        entry(value, path + dot + name, place + dot + name);
      } else {
        unknown(path + dot + name, place + dot + name);
      }
    }
  }

  void entry(const json& value, const std::string& path, const std::string& place) {
    if (const Key* key = find(place)) return check(*key, value, path);
    if (is_block(place + "[]")) return groups(value, path, place + "[]");
    if (!is_block(place)) return unknown(path, place);
    if (value.is_null() || value == json("auto")) return;
    if (!value.is_object()) return findings_.error(path, fmt::format("is {}; expected a block, {{ ... }}", shown(value)));
    block(value, path, place);
  }

  void groups(const json& value, const std::string& path, const std::string& place) {
    if (value.is_null()) return;
    if (!value.is_array()) return findings_.error(path, fmt::format("is {}; expected a list of blocks", shown(value)));
    json clean = json::array();
    for (size_t i = 0; i < value.size(); ++i) {
      const std::string at = fmt::format("{}[{}]", path, i);
      if (!value[i].is_object()) {
        findings_.error(at, fmt::format("is {}; expected a block, {{ ... }}", shown(value[i])));
        continue;
      }
      if (!value[i].contains("patterns")) findings_.error(at, "has no patterns: expected a string or a list of strings");
      clean.push_back(block_of_list(value[i], at, place));
    }
    values_.set(path, std::move(clean), Origin::Given);
  }

  // What a block of a list holds, in the schema's own form.
  json block_of_list(const json& object, const std::string& path, const std::string& place) {
    block(object, path, place);
    json clean = json::object();
    for (const auto& [name, element] : object.items()) {
      const Key* key = find(place + "." + name);
      if (!key || element.is_null()) continue;
      if (const auto read = normalised(key->type, element)) clean[name] = *read;
    }
    return clean;
  }

  // A list of texts and blocks; one of them stands for a list of one.
  void sources(const Key& key, const json& value, const std::string& path) {
    json clean = json::array();
    const auto add = [&](const json& source, const std::string& at) {
      if (is_text(source)) return clean.push_back(source);
      if (!source.is_object()) return findings_.error(at, wrong(key.type, source));
      clean.push_back(block_of_list(source, at, std::string(key.path) + "[]"));
    };
    if (!value.is_array()) add(value, path);
    for (size_t i = 0; value.is_array() && i < value.size(); ++i) add(value[i], fmt::format("{}[{}]", path, i));
    values_.set(path, std::move(clean), Origin::Given);
    values_.find(path)->is_list = value.is_array();
  }

  void unknown(const std::string& path, const std::string& place) {
    const size_t dot = place.rfind('.');
    const std::string block = dot == std::string::npos ? "" : place.substr(0, dot);
    const std::string name = dot == std::string::npos ? place : place.substr(dot + 1);
    const auto siblings = names_in(block);
    std::string text = "is not a known key";
    if (const std::string_view meant = other_name(name, siblings); !meant.empty()) {
      text += fmt::format("; the nearest is {}", meant);
    } else if (const std::string_view nearest = nearest_name(name, siblings); !nearest.empty()) {
      text += fmt::format("; the nearest is {}", nearest);
    } else if (const std::string_view elsewhere = path_of_name(name); !elsewhere.empty()) {
      text += fmt::format("; the nearest is {}", elsewhere);
    } else if (const std::string_view far = nearest_anywhere(name); !far.empty()) {
      text += fmt::format("; the nearest is {}", far);
    } else {
      text += fmt::format("; {} holds {}", block.empty() ? "the top level" : block, listed(siblings, kMostListed));
    }
    if (strict_) return findings_.unknown(path, text);
    findings_.warn(fmt::format("{}: {} {}; it is not used", document_.place(path), document_.spelling(path), text));
  }

  // The key that other programs call so; "": none of `siblings`.
  static std::string_view other_name(const std::string& name, const std::vector<std::string_view>& siblings) {
    constexpr std::pair<std::string_view, std::string_view> kOtherNames[] = {
        {"learning_rate", "lr"}, {"epsilon", "eps"}, {"beta1", "betas"}, {"beta2", "betas"}, {"wd", "weight_decay"}};
    for (const auto& [other, key] : kOtherNames)
      if (other == name && std::find(siblings.begin(), siblings.end(), key) != siblings.end()) return key;
    return {};
  }

  static std::string_view nearest_anywhere(const std::string& name) {
    std::vector<std::string_view> names;
    for (const Key& key : keys()) names.push_back(key.path.substr(key.path.rfind('.') + 1));
    const std::string_view nearest = nearest_name(name, names);
    return nearest.empty() ? nearest : path_of_name(nearest);
  }

  template <typename Name>
  static std::string listed(const std::vector<Name>& names, size_t most) {
    std::string text;
    for (size_t i = 0; i < names.size() && i < most; ++i) text += (i == 0 ? "" : ", ") + std::string(names[i]);
    return names.size() > most ? fmt::format("{}, ... ({} config --keys lists all)", text, program_name()) : text;
  }

  void check(const Key& key, const json& value, const std::string& path) {
    const bool in_list = key.path.find("[]") != std::string_view::npos;
    if (!belongs(key, path)) return;
    const bool own_choice = key.type.kind == Kind::Choice && has_word(key.type.choices, "auto");
    if (value == json("auto") && !own_choice) {
      if (in_list) return findings_.error(path, "is \"auto\", and nothing could fill it in: give a value or leave it out");
      if (key.list == List::Honoured) values_.set(path, value, Origin::Auto);
      return;
    }
    if (value.is_null() && key.type.nullable) return;
    if (key.type.kind == Kind::Sources) return sources(key, value, path);
    const auto read = normalised(key.type, value);
    if (key.list == List::Refused && !is_harmless(key, read.value_or(value))) {
      return findings_.error(path, fmt::format("is {}: {}", shown(value), as_called(key.meaning)));
    }
    if (!read) {
      const bool is_auto = value.is_string() && value != "auto" && edit_distance("auto", value.get_ref<const std::string&>(), 0) == 0;
      return findings_.error(path, wrong(key.type, value) + (key.path == "optimizer.type" ? what_it_is_here(value) : "") +
                                       (is_auto ? "; \"auto\" is written in small letters" : ""));
    }
    if (key.list == List::Accepted) ineffective_[{std::string(key.meaning), document_.setting(path)}].push_back(document_.spelling(path));
    // What a block says beside that it is off is not refused, and not passed over in silence.
    if (key.list == List::Refused && key.harmless == "off" && value.is_object())
      ineffective_[{"the block is not enabled", document_.setting(path)}].push_back(document_.spelling(path));
    if (in_list) return;
    values_.set(path, *read, Origin::Given);
    if (key.list != List::Honoured) values_.find(path)->effective = false;
  }

  // Is it a parameter of the optimizer or the scheduler, or a size of the model, that the file names?
  bool belongs(const Key& key, const std::string& path) {
    if (key.path.starts_with("model.")) {
      if (key.of.empty() || family_.empty() || has_word(key.of, family_)) return true;
      std::vector<std::string_view> names;
      for (std::string_view name : parameters_of("model", family_))
        if (!find(fmt::format("model.{}", name))->of.empty()) names.push_back(name);
      findings_.error(path, fmt::format("is no key of model.family \"{}\": expected {}", family_, listed(names, names.size())));
      return false;
    }
    const bool scheduler = key.path.starts_with("scheduler.params.");
    const std::string& type = scheduler ? scheduler_ : optimizer_;
    if (scheduler && type.empty() && !type_is_wrong("scheduler")) {
      findings_.error(path, "stands without a scheduler.type: name the schedule, or take its parameters out");
      return false;
    }
    if (key.of.empty() || type.empty() || has_word(key.of, type)) return true;
    const auto names = parameters_of(scheduler ? "scheduler.params" : "optimizer.params", type);
    findings_.error(path, fmt::format("is no parameter of {}: expected {}", type, listed(names, names.size())));
    return false;
  }
  bool type_is_wrong(const std::string& name) const {
    const json& root = document_.root;
    return root[name].contains("type") && !root[name]["type"].is_null() && root[name]["type"] != json("auto");
  }
  static std::vector<std::string_view> parameters_of(std::string_view block, std::string_view type) {
    std::vector<std::string_view> names;
    for (const Key& key : keys()) {
      if (!key.path.starts_with(block) || key.list != List::Honoured) continue;
      if (key.of.empty() || has_word(key.of, type)) names.push_back(key.path.substr(key.path.rfind('.') + 1));
    }
    return names;
  }

  static std::string wrong(const Type& type, const json& value) {
    std::string text = fmt::format("is {}; ", shown(value));
    if (type.is_path && (value.is_number() || value.is_boolean()))
      return fmt::format("{}expected {}: a path of that name is \"./{}\"", text, describe(type), value.dump());
    const bool has_empty = value == "" || (value.is_array() && std::find(value.begin(), value.end(), "") != value.end());
    if (type.kind == Kind::Texts && has_empty)
      return fmt::format("{}; expected {}, none of them empty",
                         value.is_string() ? "is empty" : fmt::format("is {}, with an empty one", shown(value)), describe(type));
    if (type.kind != Kind::Choice || !value.is_string()) return text + "expected " + describe(type);
    const auto& name = value.get_ref<const std::string&>();
    for (const auto& [names, why] : {std::pair(type.later, "which is not in this version"), std::pair(type.others, "which there is not")}) {
      for (std::string_view known : split_words(names)) {
        if (edit_distance(known, name, 0) == 0) return fmt::format("is {}, {}: use {}", shown(value), why, describe(type));
      }
    }
    auto known = split_words(type.choices);
    for (std::string_view later : split_words(type.later)) known.push_back(later);
    if (const std::string_view nearest = nearest_name(name, known); !nearest.empty()) text += fmt::format("the nearest is {}; ", nearest);
    text += "expected " + describe(type);
    if (!type.later.empty()) {
      std::string names;
      for (std::string_view later : split_words(type.later)) names += (names.empty() ? "" : ", ") + std::string(later);
      text += fmt::format(" ({} {} not in this version)", names, names.find(',') == std::string::npos ? "is" : "are");
    }
    return text;
  }

  // Of an optimizer by the name of a class or a variant of it (DeepSpeedCPUAdam, adamw_torch_fused).
  static std::string what_it_is_here(const json& value) {
    std::string name = value.is_string() ? value.get<std::string>() : "";
    std::transform(name.begin(), name.end(), name.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    for (const auto& [part, type] : {std::pair("adamw", "AdamW"), std::pair("adam", "Adam"), std::pair("lion", "Lion")})
      if (name.find(part) != std::string::npos)
        return fmt::format("; \"{}\" is one fused kernel here, and with zero_optimization.offload_optimizer the host runs it", type);
    return "";
  }

  const Document& document_;
  Findings& findings_;
  Values values_;
  bool strict_ = true;
  std::string optimizer_, scheduler_, family_;
  std::map<std::pair<std::string, std::string>, std::vector<std::string>> ineffective_;  // reason, and --set or "" -> keys
};

}  // namespace

Values check_tree(const Document& document, Findings& findings) { return Checker(document, findings).run(); }

}  // namespace zerostep::schema
