#pragma once
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "offload/tier.h"
#include "runtime/config/config.h"
#include "runtime/config/document.h"
#include "runtime/config/load_config.h"
#include "runtime/config/schema.h"

namespace zerostep::schema {

enum class Origin : uint8_t { Given, Default, Derived, Auto };
const char* name_of(Origin origin);

struct Value {
  nlohmann::json value;
  Origin origin = Origin::Default;
  bool written = true;    // in the resolved file
  bool effective = true;  // false: accepted, or without effect in this context
  std::string note;       // after the label
  bool is_list = true;    // of sources: false: the file gives one without a list around it
};

// The values of a configuration under their JSON paths.
class Values {
 public:
  bool has(std::string_view path) const { return values_.find(path) != values_.end(); }
  const Value* find(std::string_view path) const;
  Value* find(std::string_view path);
  void set(std::string_view path, nlohmann::json value, Origin origin) {
    values_[std::string(path)] = {
        .value = std::move(value), .origin = origin, .written = true, .effective = true, .note = {}, .is_list = true};
  }
  void erase(std::string_view path) { values_.erase(std::string(path)); }
  bool given(std::string_view path) const;

  // ProtocolError when the path has no value: the schema and its reader disagree.
  const nlohmann::json& at(std::string_view path) const;
  bool boolean(std::string_view path) const { return at(path).get<bool>(); }
  int64_t integer(std::string_view path) const { return at(path).get<int64_t>(); }
  double number(std::string_view path) const { return at(path).get<double>(); }
  std::string text(std::string_view path) const { return at(path).get<std::string>(); }
  std::vector<std::string> texts(std::string_view path) const { return at(path).get<std::vector<std::string>>(); }

  const std::map<std::string, Value, std::less<>>& all() const { return values_; }

  // What the sources of a list of them ("data.train") stand for; derive() fills it in.
  const std::vector<SourceConfig>& sources(std::string_view path) const;
  void set_sources(std::string_view path, std::vector<SourceConfig> sources) { sources_[std::string(path)] = std::move(sources); }

 private:
  std::map<std::string, Value, std::less<>> values_;
  std::map<std::string, std::vector<SourceConfig>, std::less<>> sources_;
};

// What is wrong with a file, collected so that it is said in one paragraph, and what deserves a warning.
class Findings {
 public:
  explicit Findings(const Document& document) : document_(document) {}
  // "FILE, line 3: PATH TEXT." A value of the command line that the text names is said to be from there.
  void error(std::string_view path, const std::string& text);
  void unknown(std::string_view path, const std::string& text);
  void warn(const std::string& text) { warnings_.push_back(text); }
  size_t num_errors() const { return errors_.size(); }
  // Throws InputError when there is an error.
  void raise() const;
  std::vector<std::string> take_warnings() { return std::move(warnings_); }

 private:
  const Document& document_;
  std::vector<std::string> errors_, warnings_;
  size_t num_unknown_ = 0;
};

// A file, or its text where that is given, with settings in it. InputError.
Document read_document(const std::string& file, const std::vector<Setting>& set, const std::optional<std::string>& text = {});
// A setting into the tree: blocks are made where they are missing. InputError.
void apply_setting(Document& document, const Setting& setting);
// Other spellings and deprecated names to the schema's own.
void apply_aliases(Document& document, Findings& findings);
// Every key and value of the tree against the schema. "auto" stays, with Origin::Auto.
Values check_tree(const Document& document, Findings& findings);
// Defaults, "auto", derived values and whatever several keys decide together.
void derive(Values& values, const ConfigRequest& request, Findings& findings);
// Of a configuration that was resolved once, as a run's config.json is, the paths that have no effect where they stand, as derive() marks
// them. Keys that are not known here, or have values that they may not have, are none of these. Reads no file: what a name of the
// catalogue stands for may have rows with fields.
std::set<std::string> keys_without_effect(const nlohmann::json& resolved);
// The model that `model` describes: its sizes, or those of the config.json in model.path, with the dropout that is given. The vocabulary is
// 0 where nothing says it. InputError.
ModelOptions model_options_of(const Values& values);
// Whether a key only stands for others, which have the values that follow from it: model.preset for sizes, model.dropout for the dropouts
// of a family that calls none of them so.
bool is_shorthand(const Values& values, std::string_view path);
// What the update of a forward-only step depends on beside what zo_log.jsonl holds of the step: a JSON object of values by path.
std::string update_values(const Values& values);
// Where what an offload block ("param", "optimizer") speaks of rests.
Tier offload_tier(const Values& values, std::string_view block);
// With this user's folder in the place of a leading "~", as a shell has it; nothing where the name begins with another user's.
std::optional<std::string> expand_home(const std::string& path);
// The typed form.
Config bind(const Values& values, int world);

}  // namespace zerostep::schema
