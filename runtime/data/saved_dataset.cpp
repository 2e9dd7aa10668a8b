#include "runtime/data/saved_dataset.h"

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/program_name.h"
#include "models/json_file.h"

namespace zerostep {
namespace {

constexpr const char* kState = "/state.json";
constexpr const char* kDictionary = "/dataset_dict.json";

bool is_there(const std::string& path) {
  std::error_code ignored;
  return std::filesystem::is_regular_file(path, ignored);
}

// Whether a name from a file leads to what lies in the folder itself.
bool stays_inside(const std::filesystem::path& name) {
  return !name.empty() && name.is_relative() && std::find(name.begin(), name.end(), "..") == name.end();
}

std::vector<std::string> names_of(const nlohmann::json& list) {
  std::vector<std::string> names;
  for (const nlohmann::json& name : list)
    if (name.is_string()) names.push_back(name.get<std::string>());
  return names;
}

std::vector<std::string> files_of(const std::string& folder, const DocumentSource& source) {
  const std::string path = folder + kState;
  const nlohmann::json state = read_json_object(path);
  const auto files = state.find("_data_files");
  if (files == state.end() || !files->is_array())
    fail_input("{}: '{}' has no list '_data_files', which names the files of a data set that save_to_disk made", source.key, path);
  if (const auto order = state.find("_indices_data_files"); order != state.end() && order->is_array() && !order->empty())
    fail_input("{}: '{}' has its rows in an order of its own ('_indices_data_files'): save it anew after flatten_indices()", source.key,
               folder);
  std::vector<std::string> out;
  for (const nlohmann::json& file : *files) {
    if (!file.is_object() || !file.contains("filename") || !file["filename"].is_string())
      fail_input("{}: '{}' has {} among its '_data_files'; an object with a 'filename' is expected", source.key, path, file.dump());
    if (const auto& name = file["filename"].get_ref<const std::string&>(); !stays_inside(name))
      fail_input("{}: '{}' names the file '{}', which is outside its folder: save_to_disk names files within it; save it anew", source.key,
                 path, name);
    const std::string name = folder + "/" + file["filename"].get<std::string>();
    if (!is_there(name)) fail_input("{}: '{}' names '{}', which is not there: bring the whole folder", source.key, path, name);
    out.push_back(name);
  }
  if (out.empty()) fail_input("{}: '{}' names no file: the data set is empty", source.key, path);
  return out;
}

// How one of several splits is named, for messages.
std::string one_split(const std::string& folder, const std::string& split, const DocumentSource& source) {
  const std::string& way = source.ways.split;
  if (way.empty()) return fmt::format("the folder of one, '{}/{}'", folder, split);
  return fmt::format("one, {}, or its folder, '{}/{}'",
                     way.starts_with('"') ? fmt::format("{{\"files\": \"{}\", {}: \"{}\"}}", folder, way, split)
                                          : fmt::format("{} {}", way, shell_word(split)),
                     folder, split);
}

}  // namespace

bool is_saved_dataset(const std::string& folder) { return is_there(folder + kState) || is_there(folder + kDictionary); }

std::vector<std::string> saved_dataset_files(const std::string& folder, const DocumentSource& source) {
  if (!is_there(folder + kDictionary)) {
    if (!source.split.empty())
      fail_input("{}: '{}' is one data set, without a split '{}': leave {} out", source.key, folder, source.split, source.ways.split);
    return files_of(folder, source);
  }
  const std::string path = folder + kDictionary;
  const nlohmann::json dictionary = read_json_object(path);
  const std::vector<std::string> splits = dictionary.contains("splits") ? names_of(dictionary["splits"]) : std::vector<std::string>();
  if (splits.empty()) fail_input("{}: '{}' has no list 'splits' of the data sets beside it", source.key, path);
  if (source.split.empty() && splits.size() > 1)
    fail_input("{}: '{}' holds the splits {}: name {}", source.key, folder, fmt::join(splits, ", "), one_split(folder, splits[0], source));
  const std::string split = source.split.empty() ? splits.front() : source.split;
  if (std::find(splits.begin(), splits.end(), split) == splits.end())
    fail_input("{}: '{}' has no split '{}'; it has {}", source.key, folder, split, fmt::join(splits, ", "));
  if (!stays_inside(split))
    fail_input("{}: '{}' has the split '{}', which is outside its folder: save_to_disk names folders within it; save it anew", source.key,
               path, split);
  return files_of(folder + "/" + split, source);
}

}  // namespace zerostep
