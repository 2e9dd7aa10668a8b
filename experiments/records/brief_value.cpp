#include "experiments/records/brief_value.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <vector>

#include "base/content_hash.h"
#include "experiments/records/run_record.h"
#include "runtime/config/schema.h"
#include "runtime/report/columns.h"

namespace zerostep {
namespace {

using nlohmann::json;

constexpr int kMostCharacters = 40;

// "a" of data/a.jsonl, and of the glob data/a/*.txt; a name of the catalogue is its own.
std::string stem_of(const std::string& file) {
  std::filesystem::path path = file;
  while (path.has_parent_path() && path.parent_path() != path && path.stem().string().find_first_not_of("*?") == std::string::npos)
    path = path.parent_path();
  const std::string extension = path.extension().string();
  const bool has_extension =
      extension.size() > 1 && std::all_of(extension.begin() + 1, extension.end(), [](unsigned char c) { return std::isalpha(c) != 0; });
  return (has_extension ? path.stem() : path.filename()).string();
}

std::string text_of_source(const json& source) {
  if (source.is_string()) return stem_of(source.get<std::string>());
  if (!source.is_object()) return plain(source);
  std::string out;
  if (const auto name = source.find("name"); name != source.end()) {
    out = plain(*name);
  } else if (const auto files = source.find("files"); files != source.end()) {
    const std::vector<json> all = files->is_array() ? files->get<std::vector<json>>() : std::vector<json>{*files};
    for (const json& file : all) out += (out.empty() ? "" : "-") + text_of_source(file);
  }
  if (const auto split = source.find("split"); split != source.end() && split->is_string()) out += "." + plain(*split);
  if (const auto most = source.find("max_documents"); most != source.end() && most->is_number() && *most != 0) out += "_max" + plain(*most);
  if (const auto weight = source.find("weight"); weight != source.end() && weight->is_number() && *weight != 0)
    out += fmt::format("_{:g}", weight->get<double>());
  return out;
}

struct Joined {
  std::string text;
  bool is_whole = true;
};

Joined joined(const std::vector<std::string>& parts, const char* between) {
  constexpr int kRoomForCount = 8;
  Joined out;
  for (size_t i = 0; i < parts.size(); ++i) {
    const std::string longer = out.text + (i > 0 ? between : "") + parts[i];
    if (columns_of_text(longer) > kMostCharacters - (i + 1 < parts.size() ? kRoomForCount : 0) && !(i == 0 && parts.size() > 1)) {
      out.is_whole = false;
      if (i == 0)  // a single one that is too long
        out.text = first_columns(parts[i], kMostCharacters);
      else
        out.text = std::string(first_columns(out.text, kMostCharacters - kRoomForCount)) + fmt::format("+{}more", parts.size() - i);
      return out;
    }
    out.text = longer;
  }
  return out;
}

Joined told(std::string_view path, const json& value) {
  if (!value.is_structured()) return {plain(value)};
  const schema::Key* key = schema::find(path);
  if (key != nullptr && key->type.kind == schema::Kind::Sources) {
    std::vector<std::string> sources;
    if (value.is_object()) sources.push_back(text_of_source(value));
    if (value.is_array())
      for (const json& source : value) sources.push_back(text_of_source(source));
    return sources.empty() ? Joined{"none"} : joined(sources, "+");
  }
  if (value.empty()) return {"none"};
  std::vector<std::string> parts;
  bool is_whole = true;
  const auto inner = [&](const json& part) {
    Joined text = told("", part);
    is_whole = is_whole && text.is_whole;
    return text.text;
  };
  if (value.is_object())
    for (const auto& [name, part] : value.items()) parts.push_back(name + "_" + inner(part));
  else
    for (const json& part : value) parts.push_back(inner(part));
  const bool are_numbers = value.is_array() && std::all_of(value.begin(), value.end(), [](const json& part) { return part.is_number(); });
  Joined out = joined(parts, are_numbers ? "_" : "+");
  out.is_whole = out.is_whole && is_whole;
  return out;
}

}  // namespace

std::string brief(std::string_view path, const nlohmann::json& value) { return told(path, value).text; }

bool fits_brief(std::string_view path, const nlohmann::json& value) { return told(path, value).is_whole; }

std::string with_hash_of(const std::string& text, const nlohmann::json& value) {
  constexpr size_t kDigits = 8;
  return fmt::format("{}-{}", text, ContentHash().add(value.dump()).hex().substr(0, kDigits));
}

}  // namespace zerostep
