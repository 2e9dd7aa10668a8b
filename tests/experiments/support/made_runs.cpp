#include "tests/experiments/support/made_runs.h"

#include <fmt/format.h>

#include <fstream>
#include <regex>
#include <sstream>

namespace zerostep::testing {

std::string MadeRuns::make(const std::string& name, const Columns& columns, const nlohmann::json& config, const nlohmann::json& plan,
                           const std::string& log) const {
  std::string text;
  for (size_t c = 0; c < columns.size(); ++c) text += (c > 0 ? "," : "") + columns[c].first;
  text += "\n";
  for (size_t i = 0; i < columns.at(0).second.size(); ++i) {
    for (size_t c = 0; c < columns.size(); ++c) text += (c > 0 ? "," : "") + columns[c].second.at(i);
    text += "\n";
  }
  write("runs/" + name + "/metrics.csv", text);
  write("runs/" + name + "/config.json", config.dump());
  write("runs/" + name + "/log.txt", log);
  if (!plan.is_null()) write("runs/" + name + "/plan.json", plan.dump());
  return path("runs/" + name);
}

std::string MadeRuns::write(const std::string& name, const std::string& content) const {
  std::filesystem::create_directories(std::filesystem::path(path(name)).parent_path());
  std::ofstream(path(name)) << content;
  return path(name);
}

std::string MadeRuns::read(const std::string& name) const {
  std::ostringstream out;
  out << std::ifstream(path(name)).rdbuf();
  return out.str();
}

std::vector<std::string> counted_cells(size_t count) {
  std::vector<std::string> out;
  for (size_t i = 0; i < count; ++i) out.push_back(std::to_string(i));
  return out;
}

std::vector<std::string> cells(const std::vector<double>& values) {
  std::vector<std::string> out;
  for (double value : values) out.push_back(value == value ? fmt::format("{}", value) : "");
  return out;
}

std::vector<std::vector<std::string>> rows_of(const std::string& text) {
  std::vector<std::vector<std::string>> out;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    out.emplace_back(1);
    for (char c : line)
      if (c == '\t')
        out.back().emplace_back();
      else
        out.back().back() += c;
  }
  return out;
}

std::string wrong_with_xml(const std::string& text) {
  static const std::regex kTag(R"re((/?)([A-Za-z][\w:-]*)((\s+[A-Za-z_][\w:.-]*="[^"<]*")*)\s*(/?))re");
  static const std::regex kEntity(R"(&(amp|lt|gt|quot|#\d+);)");
  std::vector<std::string> open;
  bool has_root = false;
  for (size_t at = 0; at < text.size(); ++at) {
    if (text[at] == '&') {
      if (!std::regex_search(text.begin() + static_cast<std::ptrdiff_t>(at), text.end(), kEntity, std::regex_constants::match_continuous))
        return "a bare & in " + text.substr(at, 40);
      continue;
    }
    if (text[at] != '<') continue;
    const size_t end = text.find('>', at);
    if (end == std::string::npos) return "a tag that does not end: " + text.substr(at, 40);
    std::string inner = text.substr(at + 1, end - at - 1);
    at = end;
    if (inner.starts_with('?')) continue;
    // A polyline's points are long, and a regular expression recurses.
    if (const size_t points = inner.find(" points=\""); points != std::string::npos) {
      const size_t quote = inner.find('"', points + 9);
      if (quote == std::string::npos || inner.find_first_not_of("0123456789,.- ", points + 9) != quote)
        return "points: " + inner.substr(points, 40);
      inner.erase(points, quote + 1 - points);
    }
    std::smatch match;
    if (!std::regex_match(inner, match, kTag)) return "no tag: " + inner.substr(0, 80);
    const std::string name = match[2];
    if (match[1].length() > 0) {
      if (open.empty() || open.back() != name) return "closed without being open: " + name;
      open.pop_back();
    } else if (match[5].length() == 0) {
      if (open.empty() && has_root) return "a second root: " + name;
      has_root = true;
      open.push_back(name);
    }
  }
  return open.empty() ? "" : "not closed: " + open.back();
}

}  // namespace zerostep::testing
