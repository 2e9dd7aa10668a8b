#pragma once
#include <string>
#include <vector>

namespace zerostep {

// Rows of cells as a text in columns, two blanks apart: the first column begins at the left, the others end at the right.
class TextTable {
 public:
  void add(std::vector<std::string> row) { rows_.push_back(std::move(row)); }
  std::string text() const;

 private:
  std::vector<std::vector<std::string>> rows_;
};

}  // namespace zerostep
