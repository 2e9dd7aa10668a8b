#include "experiments/fetch/hub_source.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <fnmatch.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <filesystem>
#include <string_view>

#include "base/console.h"
#include "base/error.h"
#include "experiments/fetch/fetched_record.h"
#include "experiments/fetch/part_file.h"

namespace zerostep {
namespace {

using nlohmann::json;

constexpr std::string_view kSpecial = "*?[";

// "a.json.gz" is called "a.jsonl.gz" here.
std::string name_here(const std::string& path) {
  for (const std::string_view ending : {".json", ".json.gz", ".json.zst"})
    if (path.ends_with(ending)) return path.substr(0, path.size() - ending.size()) + ".jsonl" + std::string(ending.substr(5));
  return path;
}

// A path that leads nowhere else than below the folder that it is added to.
bool is_inside(const std::string& path) {
  if (path.empty() || visible(path) != path || path.find_first_of("\n\t") != std::string::npos) return false;
  for (size_t begin = 0; begin <= path.size();) {
    const size_t end = std::min(path.find('/', begin), path.size());
    const std::string_view part = std::string_view(path).substr(begin, end - begin);
    if (part.empty() || part == "." || part == "..") return false;
    begin = end + 1;
  }
  return true;
}

// "NAME" or "OWNER/NAME".
bool is_repository(const std::string& name) {
  const auto is_plain = [](unsigned char c) { return std::isalnum(c) != 0 || c == '-' || c == '_' || c == '.' || c == '/'; };
  return is_inside(name) && std::all_of(name.begin(), name.end(), is_plain) && std::count(name.begin(), name.end(), '/') <= 1;
}

std::vector<std::string> texts_of(const json& value) {
  std::vector<std::string> out;
  for (const json& one : value.is_array() ? value : json::array({value}))
    if (one.is_string()) out.push_back(one.get<std::string>());
  if (value.is_array() && out.size() != value.size()) out.clear();
  return out;
}

}  // namespace

HubSource::HubSource(const schema::Catalogue& catalogue, const schema::Catalogue::Entry& entry) {
  const auto files = entry.source.at("files").get<std::vector<std::string>>();
  const json& origin = entry.origin;
  if (!origin.is_object() || !origin.contains("hub"))
    fail_input("'{}' is of no hub: the catalogue {} says {}; its files are expected at {}", entry.name, catalogue.file(),
               origin.is_string() ? fmt::format("\"{}\"", origin.get<std::string>()) : "of no \"source\" with \"hub\" where they come from",
               fmt::join(files, ", "));
  const std::string place = fmt::format("{}: {}.source", catalogue.file(), entry.name);
  constexpr std::array<std::string_view, 3> kKeys{"hub", "files", "revision"};
  for (const auto& [key, value] : origin.items()) {
    if (std::find(kKeys.begin(), kKeys.end(), key) == kKeys.end())
      fail_input("{}.{} is not a known key: it has {}", place, key, fmt::join(kKeys, ", "));
    if (texts_of(value).empty() || (key != "files" && !value.is_string()))
      fail_input("{}.{} is {}; expected a text", place, key, value.dump());
  }
  repository_ = origin["hub"].get<std::string>();
  if (!is_repository(repository_))
    fail_input("{}.hub is \"{}\"; expected the name of a data set of a hub, \"OWNER/NAME\"", place, repository_);
  revision_ = origin.value("revision", revision_);
  for (const std::string& hub : texts_of(origin.value("files", json()))) {
    if (!is_inside(hub)) fail_input("{}.files has \"{}\"; expected a path or pattern within the data set", place, hub);
    for (const std::string& ending : {hub, name_here(hub)})
      for (const std::string& here : files)
        if (here.ends_with("/" + ending) && (patterns_.empty() || patterns_.back().hub != hub)) {
          const std::string folder = here.substr(0, here.size() - ending.size() - 1);
          if (folder_.empty()) folder_ = folder;
          if (folder != folder_ || folder.find_first_of(kSpecial) != std::string::npos)
            fail_input("{}: the files come to lie in several folders, {} and {}: give each a name of its own in the catalogue", place,
                       folder_, folder);
          patterns_.push_back({hub, here});
        }
    if (patterns_.empty() || patterns_.back().hub != hub)
      fail_input("{}.files has \"{}\", and none of its \"files\" ({}) ends so: where it comes to lie here is not told", place, hub,
                 fmt::join(files, ", "));
  }
  if (patterns_.empty()) fail_input("{}.files is missing: expected a path or pattern of files of the data set, or a list of them", place);
}

std::string HubSource::folder_of_hub() const {
  std::string common;
  for (size_t i = 0; i < patterns_.size(); ++i) {
    const std::string& pattern = patterns_[i].hub;
    const std::string plain = pattern.substr(0, pattern.find_first_of(kSpecial));
    const std::string folder = plain.substr(0, plain.find_last_of('/') == std::string::npos ? 0 : plain.find_last_of('/'));
    if (i == 0) common = folder;
    while (!common.empty() && folder != common && !folder.starts_with(common + "/"))
      common.resize(common.find_last_of('/') == std::string::npos ? 0 : common.find_last_of('/'));
  }
  return common;
}

std::string HubSource::patterns() const {
  std::vector<std::string> out;
  for (const Pattern& pattern : patterns_) out.push_back(pattern.hub);
  return fmt::format("{}", fmt::join(out, ", "));
}

std::optional<std::string> HubSource::place_of(const std::string& path) const {
  if (!is_inside(path)) return std::nullopt;
  for (const Pattern& pattern : patterns_) {
    if (::fnmatch(pattern.hub.c_str(), path.c_str(), FNM_PATHNAME | FNM_PERIOD) != 0) continue;
    std::string here = pattern.here.ends_with("/" + pattern.hub) ? path : name_here(path);
    if (PartFile::may_be_beside(here) || here == FetchedRecord::kName || here == kFetchLock) return std::nullopt;
    return folder_ + "/" + here;
  }
  return std::nullopt;
}

}  // namespace zerostep
