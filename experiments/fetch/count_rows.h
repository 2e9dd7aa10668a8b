#pragma once
#include <cstdint>
#include <string>

namespace zerostep {

// Of a file of documents: its rows as readers have them, or one of a .txt file. InputError where the file cannot be read.
int64_t count_rows(const std::string& path);

}  // namespace zerostep
