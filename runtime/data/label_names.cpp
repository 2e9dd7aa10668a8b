#include "runtime/data/label_names.h"

#include <algorithm>
#include <cstdlib>
#include <optional>
#include <string_view>
#include <utility>

#include "base/error.h"
#include "base/nth.h"
#include "runtime/data/table_file.h"

namespace zerostep {
namespace {

constexpr int64_t kMaxNumbered = 1000;
constexpr std::string_view kNumberedName = "LABEL_";

// The whole numbers that names are, or that stand in LABEL_0 and the like; nothing where one is another kind of name.
std::optional<std::vector<int64_t>> numbers_of(const std::vector<std::string>& names, bool labelled) {
  std::vector<int64_t> out;
  for (const std::string& name : names) {
    if (labelled && !name.starts_with(kNumberedName)) return std::nullopt;
    const std::string number = labelled ? name.substr(kNumberedName.size()) : name;
    if (!is_whole_number(number)) return std::nullopt;
    out.push_back(std::stoll(number));
  }
  return out;
}

bool is_fraction(const std::string& name) {
  char* end = nullptr;
  std::strtod(name.c_str(), &end);
  return !name.empty() && *end == 0 && name.find('.') != std::string::npos;
}

std::string lower(std::string name) {
  for (char& c : name)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return name;
}

}  // namespace

LabelNames::LabelNames(std::vector<std::string> names) : names_(std::move(names)) {
  for (size_t i = 0; i < names_.size(); ++i) {
    if (!indices_.emplace(names_[i], static_cast<int64_t>(i)).second) fail_input("the label '{}' is named twice", names_[i]);
  }
}

LabelNames LabelNames::found_in_data(const std::vector<std::string>& found, int64_t num_labels, const std::string& key) {
  std::vector<std::string> names = found;
  std::sort(names.begin(), names.end());
  names.erase(std::unique(names.begin(), names.end()), names.end());
  if (names.empty()) fail_input("{}: there is no label in the data", key);
  for (const bool labelled : {false, true}) {
    const auto numbers = numbers_of(names, labelled);
    if (!numbers) continue;
    if (!labelled)
      std::sort(names.begin(), names.end(), [](const std::string& a, const std::string& b) { return std::stoll(a) < std::stoll(b); });
    const auto [least, largest] = std::minmax_element(numbers->begin(), numbers->end());
    if (*least < 0 || *largest >= (num_labels > 0 ? num_labels : kMaxNumbered)) continue;
    std::vector<std::string> numbered;
    for (int64_t i = 0; i < (num_labels > 0 ? num_labels : *largest + 1); ++i)
      numbered.push_back(fmt::format("{}{}", labelled ? kNumberedName : "", i));
    return LabelNames(std::move(numbered));
  }
  if (num_labels > 0 && static_cast<int64_t>(names.size()) > num_labels) {
    const std::vector<std::string> first(names.begin(), names.begin() + std::min<ptrdiff_t>(20, std::ssize(names)));
    fail_input(
        "{}: the data has {} labels ({}{}), more than the {} classes of the model: set model.num_labels to {} (with a prompt, name as many "
        "data.label_words), or correct the column that data.label_field names{}",
        key, names.size(), fmt::join(first, ", "), names.size() > first.size() ? ", ..." : "", num_labels, names.size(),
        std::any_of(names.begin(), names.end(), is_fraction) ? ". Numbers with fractions are classes here, not values to predict" : "");
  }
  return LabelNames(std::move(names));
}

int64_t LabelNames::index(const std::string& name) const {
  const auto found = indices_.find(name);
  return found == indices_.end() ? -1 : found->second;
}

int64_t LabelNames::match(const std::string& name) const {
  if (const int64_t exact = index(name); exact >= 0) return exact;
  int64_t found = -1;
  for (int64_t i = 0; i < size(); ++i) {
    if (lower(nth(names_, i)) != lower(name)) continue;
    if (found >= 0) return -1;
    found = i;
  }
  return found;
}

LabelNames LabelNames::filled_up(int64_t num_labels) const {
  std::vector<std::string> names = names_;
  for (int64_t i = size(); i < num_labels; ++i) {
    std::string name = fmt::format("{}{}", kNumberedName, i);
    while (std::find(names.begin(), names.end(), name) != names.end()) name += "_";
    names.push_back(std::move(name));
  }
  return LabelNames(std::move(names));
}

}  // namespace zerostep
