#pragma once
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace zerostep::schema {

// A file of JSON as a tree, and where each value stands.
struct Document {
  std::string file, kind;  // kind: what it is read as, "configuration file"
  nlohmann::json root;
  std::map<std::string, std::string, std::less<>> where;       // JSON path -> "line 12" or as Setting::from
  std::map<std::string, std::string, std::less<>> written_as;  // JSON path -> the other spelling that the file has

  // As Setting::from, "--set a.b=c": what has given or taken out the value of a path, or a block that holds it; "": it is the file's.
  std::string setting(std::string_view path) const;
  // "FILE, line 12", or what setting() gives: for the start of a message about a path.
  std::string place(std::string_view path) const;
  // The path as the file spells it.
  std::string spelling(std::string_view path) const;
};

// JSON with // and /* */ comments and trailing commas. InputError for everything else: duplicate keys, NaN and Infinity, numbers beyond
// double, more than 64 levels, bytes that are not UTF-8, an empty, truncated or huge text; each with line and column or path.
Document parse_document(std::string_view text, const std::string& file, const std::string& kind = "configuration file");
// The same from a file; InputError when it is missing, a directory, unreadable or larger than 1 MiB.
Document read_document(const std::string& file, const std::string& kind = "configuration file");

bool is_utf8(std::string_view text);
// Without what is not UTF-8 or a control character: fit for a terminal.
std::string printable(std::string_view text);
// A value for a message: JSON, shortened.
std::string shown(const nlohmann::json& value);

}  // namespace zerostep::schema
