#pragma once
#include <string>

namespace zerostep {

// The path of a library that lies beside the program, or its bare name, by which the system looks for it, where none does.
std::string library_beside_program(const char* name);

}  // namespace zerostep
