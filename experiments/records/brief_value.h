#pragma once
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace zerostep {

// A value of a key as it stands in names, legends and tables. Of a list or an object what tells most, without brackets and commas: of
// sources their names, or else the stems of their files, each with its weight ("alpha_3+beta_1"), of numbers "0.9_0.99", of anything else
// its values joined by "+". At most 40 characters of those, where "+3more" counts what has no room. Several values may have one text.
std::string brief(std::string_view path, const nlohmann::json& value);
// Whether brief() leaves no part of a list or an object out for want of room.
bool fits_brief(std::string_view path, const nlohmann::json& value);
// The text with some digits of the hash of the value, which no other value has.
std::string with_hash_of(const std::string& text, const nlohmann::json& value);

}  // namespace zerostep
