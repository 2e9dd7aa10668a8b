#pragma once
#include <string>

namespace zerostep {

// The path of a library that lies beside the program, or its bare name, by which the system looks for it, where none does.
std::string library_beside_program(const char* name);
// The folder that the program lies in; "" where the system does not tell.
std::string folder_of_program();

}  // namespace zerostep
