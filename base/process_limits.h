#pragma once
#include <cstdint>
#include <string>

namespace zerostep {

// Lets this process have so many more files open beside those that are open now, as far as the system permits it (`ulimit -n`). Gives "",
// or why it may not have them and what helps.
std::string allow_open_files(int64_t more);
// Where the addresses of this process are limited (`ulimit -v`): an end of a message about memory that could not be had. Else "".
std::string address_limit();

}  // namespace zerostep
