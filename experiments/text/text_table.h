#pragma once
#include <cstddef>
#include <string>
#include <vector>

namespace zerostep {

// Rows of cells as a text in columns, two blanks apart and as wide as their widest cell on a terminal. So many columns begin at the left,
// the others end at the right; blanks at the end of a line are left out.
class TextTable {
 public:
  static constexpr size_t kAll = static_cast<size_t>(-1);
  explicit TextTable(size_t left_columns = 1) : left_columns_(left_columns) {}
  void add(std::vector<std::string> row) { rows_.push_back(std::move(row)); }
  std::string text() const;

 private:
  size_t left_columns_;
  std::vector<std::vector<std::string>> rows_;
};

}  // namespace zerostep
