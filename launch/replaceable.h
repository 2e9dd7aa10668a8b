#pragma once
#include <string>
#include <string_view>

namespace zerostep {

// A file that an option names to be written: its folder is there and takes a new file, and it is not, or begins as the files that this
// option writes. What else lies there is somebody's, and so is a link. InputError naming option and path.
void check_replaceable(const std::string& option, const std::string& path, std::string_view beginning);

}  // namespace zerostep
