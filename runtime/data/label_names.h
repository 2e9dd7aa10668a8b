#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace zerostep {

// The classes of a task: index <-> name as the data writes it.
class LabelNames {
 public:
  // In the order of their indices.
  explicit LabelNames(std::vector<std::string> names);
  // From the names that occur in the data, in any order. Whole numbers that all lie in 0..num_labels-1 are their own indices (num_labels 0:
  // one more than the largest, where that is below 1000), and so are the numbers in LABEL_0, LABEL_1, ...; any others are sorted, whole
  // numbers by value, names by their bytes, and count from 0. InputError, beginning with `key`, when there are more names than labels.
  static LabelNames found_in_data(const std::vector<std::string>& found, int64_t num_labels, const std::string& key);

  int64_t size() const { return static_cast<int64_t>(names_.size()); }
  const std::string& name(int64_t index) const { return names_.at(static_cast<size_t>(index)); }
  const std::vector<std::string>& names() const { return names_; }
  int64_t index(const std::string& name) const;  // -1: none of them
  // Of a name that may be written in other cases ("True" for "true"), where one name alone fits; -1: none does.
  int64_t match(const std::string& name) const;
  // So many classes: those beyond the names are called as transformers does, LABEL_2.
  LabelNames filled_up(int64_t num_labels) const;

 private:
  std::vector<std::string> names_;
  std::map<std::string, int64_t> indices_;
};

}  // namespace zerostep
