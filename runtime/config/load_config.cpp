#include "runtime/config/load_config.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>

#include "base/error.h"
#include "base/program_name.h"
#include "runtime/config/values.h"

namespace zerostep {
namespace {

using Ordered = nlohmann::ordered_json;
using schema::Document;
using schema::Findings;
using schema::Origin;
using schema::Value;
using schema::Values;

// Paths in the order of the schema; a list of blocks once.
std::vector<std::string> ordered_paths() {
  std::vector<std::string> paths;
  for (const schema::Key& key : schema::keys()) {
    std::string path(key.path.substr(0, key.path.find("[]")));
    if (std::find(paths.begin(), paths.end(), path) == paths.end()) paths.push_back(std::move(path));
  }
  return paths;
}

void put(Ordered& root, std::string_view path, const nlohmann::json& value) {
  Ordered* node = &root;
  for (size_t dot = path.find('.'); dot != std::string_view::npos; dot = path.find('.')) {
    node = &(*node)[std::string(path.substr(0, dot))];
    path.remove_prefix(dot + 1);
  }
  (*node)[std::string(path)] = value;
}

std::string resolved(const Values& values) {
  Ordered root = Ordered::object();
  for (const std::string& path : ordered_paths()) {
    const Value* value = values.find(path);
    if (!value || !value->written) continue;
    // A default that has no effect here would only warn whoever reads the file again.
    if (!value->effective && value->origin != Origin::Given && value->origin != Origin::Auto) continue;
    put(root, path, value->value);
  }
  return root.dump(2) + "\n";
}

std::string labelled(const Values& values) {
  std::string text;
  for (const std::string& path : ordered_paths()) {
    const Value* value = values.find(path);
    if (!value) continue;
    const std::string note = value->note.empty() ? (value->effective ? "" : ", without effect") : ", " + value->note;
    text += fmt::format("{} = {}   ({}{})\n", path, value->value.dump(), name_of(value->origin), note);
  }
  return text;
}

// The texts of a configuration.
void tell(LoadedConfig& loaded, Values values) {
  loaded.resolved_json = resolved(values);
  loaded.labelled_text = labelled(values);
  loaded.values = std::make_shared<const Values>(std::move(values));
}

}  // namespace

std::string Config::source(std::string_view key) const {
  std::string name(key);
  const size_t at = name.find('[');
  if (at != std::string::npos) name.replace(at, name.find(']') + 1 - at, "[]");
  auto found = sources.find(name);
  if (found == sources.end() && at != std::string::npos) found = sources.find(name.substr(0, at));
  return found == sources.end() ? file : found->second;
}

LoadedConfig load_config(const ConfigRequest& request) {
  if (request.world < 1) fail_protocol("[load_config] expected a world of at least one rank, got {}", request.world);
  Document document = schema::read_document(request.file, request.set, request.text);
  if (document.root.is_object() && document.root.contains("base") && !document.root.contains("model"))
    fail_input("{}: is a sweep file, of many runs: {} runs it", request.file, as_called(fmt::format("`zerostep sweep {}`", request.file)));
  Findings findings(document);
  apply_aliases(document, findings);
  Values values = check_tree(document, findings);
  findings.raise();
  derive(values, request, findings);
  findings.raise();
  LoadedConfig loaded;
  loaded.config = bind(values, request.world);
  loaded.config.file = request.file;
  for (const schema::Key& key : schema::keys())
    if (std::string typed = document.setting(key.path); !typed.empty()) loaded.config.sources.emplace(key.path, std::move(typed));
  loaded.update_values = update_values(values);
  tell(loaded, std::move(values));
  loaded.warnings = findings.take_warnings();
  return loaded;
}

void rename_run(LoadedConfig& loaded, const std::string& name) {
  loaded.config.run.name = name;
  Values values = *loaded.values;
  Value* value = values.find("run.name");
  value->value = name;
  value->written = true;
  tell(loaded, std::move(values));
}

std::string describe_keys() {
  std::string text;
  for (const schema::Key& key : schema::keys()) {
    std::string type = schema::describe(key.type);
    if (!key.type.later.empty()) type += fmt::format(" (not in this version: {})", fmt::join(schema::split_words(key.type.later), ", "));
    const std::string_view value = !key.value.empty() ? key.value : key.list == schema::List::Honoured ? "none or derived" : "-";
    const std::string of = key.of.empty() ? "" : fmt::format(" [{}]", fmt::join(schema::split_words(key.of), ", "));
    std::string meaning = as_called(key.meaning);
    if (key.list == schema::List::Refused && key.harmless == "off") meaning += "; a block that is not enabled is accepted";
    if (key.list == schema::List::Refused && key.harmless.starts_with('['))
      meaning += fmt::format("; accepted: {}", key.harmless.substr(1, key.harmless.size() - 2));
    text += fmt::format("{}  {}  {}  default {}  {}{}\n", key.path, name_of(key.list), type, value, meaning, of);
    for (const schema::ContextRule& rule : schema::context_rules()) {
      if (schema::has_word(rule.keys, key.path))
        text += fmt::format("{}  accepted {}  -  -  without effect: {}\n", key.path, name_of(rule.when), rule.reason);
    }
  }
  for (const schema::Alias& alias : schema::aliases()) {
    text += fmt::format("{}  {}  -  -  {} {}\n", alias.from, alias.deprecated ? "deprecated" : "alias",
                        alias.deprecated ? "use" : "another name of", alias.to);
  }
  return text;
}

std::vector<std::string> describe_environment() {
  struct Variable {
    const char* name;
    const char* meaning;
  };
  constexpr Variable kVariables[] = {
      {"CUDA_DEVICE_MAX_CONNECTIONS", "read by the CUDA driver, as its owner defines it"},
      {"PYTORCH_CUDA_ALLOC_CONF", "read by LibTorch's CUDA allocator, as its owner defines it"},
      {"TORCH_DISTRIBUTED_DEBUG", "read by torch.distributed alone, which does not run here"},
      {"DS_REUSE_BUFFERS", "not needed here: gathered units live in slots that are always reused"},
      {"DS_SKIP_UNUSED_PARAMETERS", "not needed here: the plan holds only what a step uses"},
      {"DS_PIPE_RESERVE", "not needed here: there is no pipeline, and buffers are allocated before the first step"},
      {"DS_USE_CUDA_TILING", "not needed here: units are the tiles"},
      {"CUDA_AUTO_BOOST", "not needed here: clocks are the driver's business"},
  };
  std::vector<std::string> lines;
  for (const Variable& variable : kVariables) {
    if (const char* value = std::getenv(variable.name)) lines.push_back(fmt::format("{}={}: {}", variable.name, value, variable.meaning));
  }
  std::vector<std::string> nccl;
  for (char** entry = environ; entry && *entry; ++entry) {
    if (std::string_view(*entry).starts_with("NCCL_")) nccl.push_back(fmt::format("{}: read by NCCL, as its owner defines it", *entry));
  }
  std::sort(nccl.begin(), nccl.end());
  lines.insert(lines.end(), nccl.begin(), nccl.end());
  return lines;
}

}  // namespace zerostep
