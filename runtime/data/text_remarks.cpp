#include "runtime/data/text_remarks.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/nth.h"

namespace zerostep {

std::vector<int64_t> absent_fields(const std::vector<bool>& met, int64_t num_left_out) {
  std::vector<int64_t> out;
  if (num_left_out > 0 || std::find(met.begin(), met.end(), true) == met.end()) return out;
  for (size_t i = 0; i < met.size(); ++i)
    if (!met[i]) out.push_back(static_cast<int64_t>(i));
  return out;
}

std::vector<std::string> TextRemarks::sentences(const std::vector<std::string>& files, const DocumentSource& source,
                                                const TextTemplate& text) const {
  std::vector<std::string> out;
  if (stray_byte && stray_byte->file >= 0 && stray_byte->file < std::ssize(files))
    out.push_back(fmt::format("{}: {}{}; its bytes are kept as they are", source.key, nth(files, stray_byte->file), stray_byte->place));
  for (const int64_t field : absent_fields) {
    if (field < 0 || field >= std::ssize(text.fields())) continue;
    out.push_back(fmt::format("{}: no row has a field '{}', which {} names: the parts with it are left out everywhere", source.key,
                              nth(text.fields(), field), text.named_by(static_cast<size_t>(field))));
  }
  return out;
}

std::string TextRemarks::packed() const {
  if (!stray_byte && absent_fields.empty()) return "";
  nlohmann::json out{{"absent_fields", absent_fields}};
  if (stray_byte) out["stray_byte"] = {stray_byte->file, stray_byte->place};
  std::string text = out.dump();
  if (text.size() > kMostPacked) fail_protocol("[data] remarks of {} bytes, where {} are the most", text.size(), kMostPacked);
  return text;
}

TextRemarks TextRemarks::unpacked(std::string_view text) {
  TextRemarks out;
  if (text.empty()) return out;
  const auto found = nlohmann::json::parse(text);
  out.absent_fields = found.at("absent_fields").get<std::vector<int64_t>>();
  if (const auto stray = found.find("stray_byte"); stray != found.end())
    out.stray_byte = {stray->at(0).get<int64_t>(), stray->at(1).get<std::string>()};
  return out;
}

}  // namespace zerostep
