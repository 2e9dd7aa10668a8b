#pragma once
#include <memory>
#include <string>
#include <vector>

#include "runtime/data/row_reader.h"

namespace zerostep {

// A .jsonl file, also compressed: each line is an object, blank lines are none. As open_rows.
std::unique_ptr<RowReader> open_json_lines(const std::string& path, const std::vector<std::string>& fields, const std::string& key);

}  // namespace zerostep
