// The sources of data.train, data.bp_train, data.eval and data.test.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <limits>
#include <map>
#include <numeric>

#include "base/error.h"
#include "base/format.h"
#include "base/mixture_units.h"
#include "runtime/config/deriver.h"

namespace zerostep::schema {
namespace {

using nlohmann::json;

// A path of a folder or a kind of file, or a pattern: no name of a catalogue.
bool is_path(const std::string& text) {
  if (text.find_first_of("/*?[{") != std::string::npos) return true;
  constexpr std::array<std::string_view, 7> kEndings{".txt", ".jsonl", ".bin", ".tsv", ".csv", ".parquet", ".arrow"};
  const auto ends_so = [&](std::string_view ending) {
    return text.ends_with(ending) || text.find(std::string(ending) + ".") != std::string::npos;
  };
  return std::any_of(kEndings.begin(), kEndings.end(), ends_so);
}

// Fit for the name of a column.
bool is_name(const std::string& text) {
  const auto fits = [](unsigned char c) { return std::isalnum(c) != 0 || c == '_' || c == '-' || c == '.'; };
  return !text.empty() && std::all_of(text.begin(), text.end(), fits);
}

// The keys of a source laid over those that it has already.
void take_keys(SourceConfig& source, const json& keys) {
  if (keys.contains("files")) source.files = keys["files"].get<std::vector<std::string>>();
  source.split = keys.value("split", source.split);
  source.text = keys.value("text", source.text);
  source.weight = keys.value("weight", source.weight);
  source.max_documents = keys.value("max_documents", source.max_documents);
  if (keys.contains("missing")) source.skips_missing = keys["missing"] == "skip";
}

}  // namespace

std::vector<std::string> files_of(const std::vector<SourceConfig>& sources) {
  std::vector<std::string> out;
  for (const SourceConfig& source : sources) out.insert(out.end(), source.files.begin(), source.files.end());
  return out;
}

void Deriver::sources() {
  for (const char* list : kSourceLists) v_.set_sources(list, sources_of(list));
  if (v_.has("data.catalogue") && !catalogue_) {
    try {
      catalogue_ = Catalogue::read(v_.text("data.catalogue"));
    } catch (const InputError& error) {
      findings_.error("data.catalogue", fmt::format("cannot be used: {}", error.what()));
    }
  }
}

std::vector<SourceConfig> Deriver::sources_of(const std::string& list) {
  std::vector<SourceConfig> out;
  if (!v_.has(list)) return out;
  const Value& given = *v_.find(list);
  // Paths without anything else are one source, as long as nothing comes between them.
  bool joins = false;
  for (size_t i = 0; i < given.value.size(); ++i) {
    const json& entry = given.value[i];
    std::optional<SourceConfig> source = source_of(entry, given.is_list ? fmt::format("{}[{}]", list, i) : list);
    if (!source) continue;
    const bool is_plain = entry.is_string() && source->name.empty();
    if (is_plain && joins) {
      out.back().files.push_back(source->files.front());
    } else {
      out.push_back(std::move(*source));
    }
    joins = is_plain;
  }
  if (out.size() == 1) out.front().key = list;
  check_together(list, out);
  return out;
}

std::vector<SourceConfig> Deriver::sources_as_written(const std::string& list) const {
  std::vector<SourceConfig> out;
  if (!v_.has(list)) return out;
  for (const json& entry : v_.find(list)->value) {
    const json files = entry.is_object() ? entry.value("files", json()) : entry;
    for (const json& file : files.is_array() ? files : json::array({files}))
      out.emplace_back().files.push_back(file.is_string() ? file.get<std::string>() : "");
  }
  return out;
}

std::optional<SourceConfig> Deriver::source_of(const json& given, const std::string& path) {
  SourceConfig source;
  source.key = path;
  source.skips_missing = v_.text("data.missing") == "skip";
  if (given.is_string()) {
    const auto& text = given.get_ref<const std::string&>();
    if (!is_path(text)) {
      if (auto named = source_of_catalogue(text, path, text)) return named;
      std::error_code error;
      if (!std::filesystem::exists(text, error)) return std::nullopt;
    }
    source.files = {text};
    return source;
  }
  const std::string name = given.value("name", "");
  if (given.contains("name") && !is_name(name)) {
    findings_.error(path + ".name",
                    fmt::format("is {}; expected letters, digits, '-', '_' and '.', as in the name of a column", shown(given["name"])));
    return std::nullopt;
  }
  if (!given.contains("files")) {
    if (name.empty()) {
      findings_.error(path, "names no files: give files, or the name of a source of the catalogue");
      return std::nullopt;
    }
    const auto named = source_of_catalogue(name, path + ".name", "");
    if (!named) return std::nullopt;
    source = *named;
    source.key = path;
  } else if (given["files"].empty()) {
    findings_.error(path + ".files", "is empty: expected a path or glob, or a list of them");
    return std::nullopt;
  }
  source.name = name;
  take_keys(source, given);
  return source;
}

std::optional<SourceConfig> Deriver::source_of_catalogue(const std::string& name, const std::string& path, const std::string& as_path) {
  std::error_code error;
  const bool is_file = !as_path.empty() && std::filesystem::exists(as_path, error);
  try {
    if (!catalogue_) catalogue_ = Catalogue::read(v_.has("data.catalogue") ? v_.text("data.catalogue") : "");
  } catch (const InputError& wrong) {
    if (!is_file || v_.has("data.catalogue")) findings_.error(path, fmt::format("is \"{}\", which is no file, and {}", name, wrong.what()));
    return std::nullopt;
  }
  const Catalogue::Entry* entry = catalogue_->find(name);
  if (entry == nullptr) {
    const char* what = as_path.empty() ? "is not" : "is neither a file here nor";
    if (!is_file) findings_.error(path, fmt::format("is \"{}\", which {} {}", name, what, catalogue_->names_beside(name)));
    return std::nullopt;
  }
  if (is_file)
    findings_.warn(fmt::format("{} is \"{}\", a name of the catalogue {}: the file or folder of that name here is \"./{}\"", path, name,
                               catalogue_->file(), name));
  SourceConfig source;
  source.key = path;
  source.name = name;
  source.catalogue = catalogue_->file();
  source.how_to_get = catalogue_->how_to_get(*entry);
  source.skips_missing = v_.text("data.missing") == "skip";
  take_keys(source, entry->source);
  return source;
}

void Deriver::check_together(const std::string& list, const std::vector<SourceConfig>& sources) {
  const auto weighted = std::count_if(sources.begin(), sources.end(), [](const SourceConfig& s) { return s.weight > 0; });
  const double sum = std::accumulate(sources.begin(), sources.end(), 0.0, [](double all, const SourceConfig& s) { return all + s.weight; });
  if (!std::isfinite(sum)) {
    findings_.error(list,
                    fmt::format("has weights whose sum is no number (a double holds {:.3g} at most): give smaller ones, of which only "
                                "the proportion counts",
                                std::numeric_limits<double>::max()));
    return;
  }
  std::map<std::string, std::string> names;
  for (const SourceConfig& source : sources) {
    if (weighted > 0 && source.weight == 0)
      findings_.error(source.key, "has no weight, and other sources have: give each a weight, or none");
    // Rounded to one unit as from half of one.
    if (source.weight > 0 && source.weight / sum * kMixtureUnits < 0.5)
      findings_.warn(
          fmt::format("{}.weight is {}, less than the least share, one sample in {}, which the source has: leave it out, or give it "
                      "a larger weight",
                      source.key, round_trip(source.weight), grouped(static_cast<int64_t>(kMixtureUnits))));
    if (source.name.empty()) continue;
    const auto [first, is_new] = names.emplace(source.name, source.key);
    if (!is_new) findings_.error(source.key, fmt::format("is called \"{}\" as {} is: name each source once", source.name, first->second));
  }
  const bool evaluates = list == "data.eval" || list == "data.test";
  for (const SourceConfig& source : sources)
    if (evaluates && !names.empty() && source.name.empty())
      findings_.error(source.key, "has no name, and other sources have: give each a name, which makes it a set of its own, or none");
}

}  // namespace zerostep::schema
