#pragma once
#include <filesystem>
#include <string>

namespace zerostep {

// The bytes that a file has now, though another process may be writing to it. InputError naming the path: it is missing, no regular file or
// cannot be read.
std::string read_file(const std::filesystem::path& path);

}  // namespace zerostep
