#pragma once
#include <cstdint>
#include <set>
#include <string>
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

// The columns that runs are usually compared by, the same in every run, whether or not they have a value in this one; then `swept`, the
// keys that the runs of a sweep are told apart by, which lead, and what else the file gives but names of files, what is printed and what is
// kept. So all runs of a sweep have the same columns: TensorBoard takes those of the first run that it meets for all. Texts of a list are
// joined. `ranks` and `precision` are no keys.
std::vector<HyperParameter> hyper_parameters(const LoadedConfig& loaded, int ranks, const std::set<std::string>& swept = {});

}  // namespace zerostep
