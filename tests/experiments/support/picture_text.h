#pragma once
#include <algorithm>
#include <sstream>
#include <string>
#include <vector>

namespace zerostep::testing {

// The value of an attribute of the first tag of SVG or HTML behind a place that has one of this name.
inline std::string attribute_of(const std::string& text, size_t from, const std::string& name) {
  const size_t begin = text.find(" " + name + "=\"", from) + name.size() + 3;
  return text.substr(begin, text.find('"', begin) - begin);
}

// The numbers of a text in which commas and blanks part them, up to the first that is none.
inline std::vector<double> numbers_of(std::string text) {
  std::replace(text.begin(), text.end(), ',', ' ');
  std::istringstream in(text);
  std::vector<double> out;
  for (double value = 0; in >> value;) out.push_back(value);
  return out;
}

}  // namespace zerostep::testing
