#include "runtime/data/label_names.h"

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "runtime/data/table_file.h"

namespace zerostep {
namespace {

constexpr int64_t kMaxNumbered = 1000;

}  // namespace

LabelNames::LabelNames(std::vector<std::string> names) : names_(std::move(names)) {
  for (size_t i = 0; i < names_.size(); ++i) {
    if (!indices_.emplace(names_[i], static_cast<int64_t>(i)).second) fail_input("the label '{}' is named twice", names_[i]);
  }
}

LabelNames LabelNames::of_data(const std::vector<std::string>& found, int64_t num_labels, const std::string& key) {
  std::vector<std::string> names = found;
  std::sort(names.begin(), names.end());
  names.erase(std::unique(names.begin(), names.end()), names.end());
  if (names.empty()) fail_input("{}: there is no label in the data", key);
  if (std::all_of(names.begin(), names.end(), is_whole_number)) {
    const auto value = [](const std::string& name) { return std::stoll(name); };
    std::sort(names.begin(), names.end(), [&](const auto& a, const auto& b) { return value(a) < value(b); });
    const int64_t limit = num_labels > 0 ? num_labels : kMaxNumbered;
    if (value(names.front()) >= 0 && value(names.back()) < limit) {
      std::vector<std::string> numbered;
      for (int64_t i = 0; i < (num_labels > 0 ? num_labels : value(names.back()) + 1); ++i) numbered.push_back(fmt::format("{}", i));
      return LabelNames(std::move(numbered));
    }
  }
  if (num_labels > 0 && static_cast<int64_t>(names.size()) > num_labels) {
    const std::vector<std::string> first(names.begin(), names.begin() + std::min<ptrdiff_t>(20, std::ssize(names)));
    fail_input(
        "{}: the data has {} labels ({}{}), more than model.num_labels {} (with a prompt, the words of data.label_words): correct it, or "
        "the "
        "column that data.label_field names",
        key, names.size(), fmt::join(first, ", "), names.size() > first.size() ? ", ..." : "", num_labels);
  }
  return LabelNames(std::move(names));
}

int64_t LabelNames::index(const std::string& name) const {
  const auto found = indices_.find(name);
  return found == indices_.end() ? -1 : found->second;
}

}  // namespace zerostep
