#pragma once
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/support/scratch_folder.h"

namespace zerostep::testing {

// Folders of runs as `train` leaves them, with values of our own.
class MadeRuns {
 public:
  using Columns = std::vector<std::pair<std::string, std::vector<std::string>>>;  // name and cells, all as many

  // A run's folder below `runs`; gives its path.
  std::string make(const std::string& name, const Columns& columns, const nlohmann::json& config = nlohmann::json::object(),
                   const nlohmann::json& plan = nullptr, const std::string& log = "ranks          1 on cpu\n3 steps done in 1 s\n") const;
  std::string write(const std::string& name, const std::string& content) const;
  std::string read(const std::string& name) const;
  std::string path(const std::string& name) const { return scratch_.path(name); }
  bool exists(const std::string& name) const { return std::filesystem::exists(scratch_.path(name)); }

 private:
  ScratchFolder scratch_;
};

// Cells 0, 1, ...
std::vector<std::string> counted_cells(size_t count);
std::vector<std::string> cells(const std::vector<double>& values);

// The lines of a text and their cells between tabs.
std::vector<std::vector<std::string>> rows_of(const std::string& text);

// What is wrong with an XML text: tags that are not closed in turn, attributes that are no name="value", a bare & or <; "": nothing.
std::string wrong_with_xml(const std::string& text);

}  // namespace zerostep::testing
