#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "runtime/config/load_config.h"

namespace zerostep {

// A value by which runs are compared, under its JSON path: a column of a table of runs.
struct HyperParameter {
  enum class Type : uint8_t { Text, Boolean, Number };
  std::string name;
  Type type = Type::Text;
  bool leads = false;                                             // what runs are compared by first
  std::vector<std::string> choices;                               // of a text that is one of a few; empty: any text
  std::variant<std::monostate, std::string, bool, double> value;  // nothing: without effect in this run
};

// The columns that runs are usually compared by, the same in every run, whether or not they have a value in this one; then what else the
// file gives but names of files, what is printed and what is kept. Texts of a list are joined. `ranks` and `precision` are no keys.
std::vector<HyperParameter> hyper_parameters(const LoadedConfig& loaded, int ranks);

}  // namespace zerostep
