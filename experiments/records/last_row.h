#pragma once
#include <filesystem>
#include <map>
#include <string>
#include <string_view>

namespace zerostep {

// The last whole row of a metrics.csv, read from its end: of a run that goes on, at little cost. Cells by column; empty where there is no
// row yet, or no such file.
std::map<std::string, std::string, std::less<>> last_row(const std::filesystem::path& metrics);
// A cell of it as a number; NaN where it is empty or none.
double number_in(const std::map<std::string, std::string, std::less<>>& row, std::string_view column);

}  // namespace zerostep
