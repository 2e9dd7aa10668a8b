#include "runtime/config/values.h"

#include <fmt/format.h>

#include <array>
#include <cctype>
#include <cstdlib>

#include "base/error.h"
#include "base/nth.h"

namespace zerostep::schema {
namespace {

// Whether a text holds the path of a key as a word. Paths that are a word of English too do not count.
bool names_key(std::string_view text, std::string_view path) {
  const auto is_of_name = [&](size_t at) {
    return at < text.size() && (std::isalnum(static_cast<unsigned char>(text[at])) || text[at] == '_');
  };
  for (size_t at = text.find(path); at != std::string_view::npos; at = text.find(path, at + 1))
    if ((at == 0 || !is_of_name(at - 1)) && !is_of_name(at + path.size())) return path.find_first_of("._") != std::string_view::npos;
  return false;
}

}  // namespace

const char* name_of(Origin origin) {
  constexpr std::array kNames{"given", "default", "derived", "auto"};
  return nth(kNames, static_cast<int>(origin));
}

const Value* Values::find(std::string_view path) const {
  const auto found = values_.find(path);
  return found == values_.end() ? nullptr : &found->second;
}
Value* Values::find(std::string_view path) {
  const auto found = values_.find(path);
  return found == values_.end() ? nullptr : &found->second;
}

bool Values::given(std::string_view path) const {
  const Value* value = find(path);
  return value && value->origin == Origin::Given;
}

const nlohmann::json& Values::at(std::string_view path) const {
  const Value* value = find(path);
  if (!value) fail_protocol("[config] no value for {}", path);
  return value->value;
}

const std::vector<SourceConfig>& Values::sources(std::string_view path) const {
  static const std::vector<SourceConfig> none;
  const auto found = sources_.find(path);
  return found == sources_.end() ? none : found->second;
}

Tier offload_tier(const Values& values, std::string_view block) {
  const Value* device = values.find(fmt::format("zero_optimization.offload_{}.device", block));
  if (device == nullptr || device->value == "none") return Tier::Device;
  return device->value == "cpu" ? Tier::Host : Tier::File;
}

std::optional<std::string> expand_home(const std::string& path) {
  if (!path.starts_with('~')) return path;
  const char* home = std::getenv("HOME");
  if (home == nullptr || *home == '\0' || (path.size() > 1 && path[1] != '/')) return std::nullopt;
  return home + path.substr(1);
}

void Findings::error(std::string_view path, const std::string& text) {
  std::string place = document_.place(path), others;
  bool is_typed = !document_.setting(path).empty();
  for (const Key& key : keys()) {
    const std::string setting = document_.setting(key.path);
    if (setting.empty() || setting == place || !names_key(text, key.path)) continue;
    // What is missing stands nowhere, and is missed because of the setting.
    if (!document_.where.contains(path) && !is_typed) {
      place = setting;
      is_typed = true;
    } else {
      others += fmt::format("; {} is that of {}", key.path, setting);
    }
  }
  errors_.push_back(fmt::format("{}: {} {}{}", place, document_.spelling(path), text, others));
}

void Findings::unknown(std::string_view path, const std::string& text) {
  errors_.push_back(fmt::format("{}: {} {}", document_.place(path), document_.spelling(path), text));
  ++num_unknown_;
}

void Findings::raise() const {
  if (errors_.empty()) return;
  constexpr size_t kMost = 8;
  std::string said;
  for (size_t i = 0; i < errors_.size() && i < kMost; ++i) {
    // The file is named once.
    std::string error = errors_[i];
    if (i > 0 && error.starts_with(document_.file + ", ")) error = "Also " + error.substr(document_.file.size() + 2);
    said += fmt::format("{}{}{}", i == 0 ? "" : " ", error, error.ends_with('.') ? "" : ".");
  }
  if (errors_.size() > kMost) said += fmt::format(" And {} more of the kind.", errors_.size() - kMost);
  if (num_unknown_ > 0) said += " Correct the name, or set \"strict\": false to turn unknown keys into warnings.";
  throw InputError(said);
}

}  // namespace zerostep::schema
