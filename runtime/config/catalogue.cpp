#include "runtime/config/catalogue.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <filesystem>

#include "base/beside_program.h"
#include "base/error.h"
#include "base/nearest_name.h"
#include "base/program_name.h"
#include "base/user_cache_folder.h"
#include "runtime/config/document.h"
#include "runtime/config/values.h"

namespace zerostep::schema {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr std::array<std::string_view, 9> kKeys{"files",       "text", "split",  "missing", "max_documents",
                                                "description", "size", "fields", "source"};

bool is_texts(const json& value) {
  const auto is_text = [](const json& v) { return v.is_string() && !v.get_ref<const std::string&>().empty(); };
  return is_text(value) || (value.is_array() && !value.empty() && std::all_of(value.begin(), value.end(), is_text));
}

// Whether a value is of the type of its key; `expected` says which that is.
bool is_right(const std::string& key, const json& value, std::string& expected) {
  const auto expect = [&](const char* type, bool is_so) {
    expected = type;
    return is_so;
  };
  if (key == "files") return expect("a path or glob, or a list of them", is_texts(value));
  if (key == "fields") return expect("an object of names and types", value.is_object());
  if (key == "source") return expect("an object or a text", value.is_object() || value.is_string());
  if (key == "max_documents") return expect("a whole number from 0 up", value.is_number_unsigned());
  if (key == "missing") return expect("\"error\" or \"skip\"", value == "error" || value == "skip");
  return expect("a text", value.is_string());
}

// A path of the catalogue as one that the program can open.
std::string whole_path(const fs::path& folder, const std::string& path) {
  return (folder / expand_home(path).value_or(path)).lexically_normal().string();
}

bool is_own_file(const std::string& file) {
  std::error_code error;
  const std::string own = Catalogue::own_file();
  return !own.empty() && fs::equivalent(file, own, error);
}

// Where relative files of a catalogue lie: the program's own may be in a folder that nobody writes to, and its data sets are one user's.
fs::path folder_of_files(const std::string& file) {
  const std::string cache = user_cache_folder();
  return is_own_file(file) && !cache.empty() ? fs::path(cache) : fs::absolute(file).parent_path();
}

Catalogue::Entry entry_of(const std::string& name, const json& value, const Document& document, const fs::path& folder) {
  const auto fail = [&](const std::string& path, const std::string& what) { fail_input("{}: {} {}", document.place(path), path, what); };
  if (!value.is_object()) fail(name, fmt::format("is {}; expected an object with files, {{\"files\": \"...\"}}", shown(value)));
  Catalogue::Entry entry;
  entry.name = name;
  entry.source = nlohmann::json::object();
  for (const auto& [key, of_key] : value.items()) {
    if (std::find(kKeys.begin(), kKeys.end(), key) == kKeys.end()) {
      const std::string_view nearest = nearest_name(key, kKeys);
      fail(name + "." + key, fmt::format("is not a known key{}; a data set of a catalogue has {}",
                                         nearest.empty() ? "" : fmt::format("; the nearest is {}", nearest), fmt::join(kKeys, ", ")));
    }
    std::string expected;
    if (!is_right(key, of_key, expected)) fail(name + "." + key, fmt::format("is {}; expected {}", shown(of_key), expected));
    if (key == "description" || key == "size") {
      (key == "size" ? entry.size : entry.description) = of_key.get<std::string>();
    } else if (key == "fields" || key == "source") {
      (key == "fields" ? entry.fields : entry.origin) = of_key;
    } else if (key != "files") {
      entry.source[key] = of_key;
    } else {
      for (const json& path : of_key.is_array() ? of_key : json::array({of_key}))
        entry.source["files"].push_back(whole_path(folder, path.get<std::string>()));
    }
  }
  if (!entry.source.contains("files")) fail(name, "names no files: expected a path or glob, or a list of them");
  return entry;
}

}  // namespace

std::string Catalogue::own_file() {
  const fs::path folder = folder_of_program();
  std::error_code error;
  for (const char* place : {"datasets.json", "../configs/datasets.json", "../share/zerostep/datasets.json"})
    if (const fs::path file = folder / place; fs::exists(file, error)) return file.lexically_normal().string();
  return "";
}

Catalogue Catalogue::read(const std::string& path) {
  Catalogue out;
  out.file_ = path.empty() ? own_file() : path;
  if (out.file_.empty())
    fail_input(
        "the program's own catalogue, datasets.json, is neither beside it ({}) nor in ../configs or ../share/zerostep from there: "
        "data.catalogue names another",
        folder_of_program());
  const Document document = read_document(out.file_, "catalogue of data sets");
  if (!document.root.is_object()) fail_input("{}: is {} and no object of data sets by name", out.file_, document.root.type_name());
  const fs::path folder = folder_of_files(out.file_);
  out.folder_ = folder.string();
  for (const auto& [name, value] : document.root.items()) out.entries_.push_back(entry_of(name, value, document, folder));
  return out;
}

const Catalogue::Entry* Catalogue::find(std::string_view name) const {
  const auto found = std::find_if(entries_.begin(), entries_.end(), [&](const Entry& entry) { return entry.name == name; });
  return found == entries_.end() ? nullptr : &*found;
}

std::string Catalogue::how_to_get(const Entry& entry) const {
  if (entry.origin.is_string()) return fmt::format("the catalogue {} says of it: {}", file_, entry.origin.get<std::string>());
  if (!entry.origin.is_object() || !entry.origin.contains("hub")) return "";
  return fmt::format("`{} data fetch {}{}` brings it here", program_name(), shell_word(entry.name),
                     is_own_file(file_) ? "" : " --catalogue " + shell_word(file_));
}

std::string Catalogue::names_beside(std::string_view name) const {
  std::vector<std::string_view> names;
  for (const Entry& entry : entries_) names.push_back(entry.name);
  const std::string_view nearest = nearest_name(name, names);
  return fmt::format("a name of the catalogue {}: that has {}{}", file_, names.empty() ? "none" : fmt::format("{}", fmt::join(names, ", ")),
                     nearest.empty() ? "" : fmt::format("; the nearest is {}", nearest));
}

}  // namespace zerostep::schema
