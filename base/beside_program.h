#pragma once
#include <string>

#include "base/error.h"

namespace zerostep {

// The path of a library that lies beside the program, or its bare name, by which the system looks for it, where none does.
std::string library_beside_program(const char* name);
// The folder that the program lies in; "" where the system does not tell.
std::string folder_of_program();

// The function of that name in such a library, which is opened and never closed: what its functions make outlives them. Where there is
// none nullptr, and `problem` says why: `needs`, such as "pictures need libx.so, which ...", and the system's reason.
void* address_beside_program(const char* library, const char* name, const std::string& needs, std::string& problem);
// Error where there is none.
template <typename Function, typename Error = RunError>
Function* function_beside_program(const char* library, const char* name, const std::string& needs) {
  std::string problem;
  void* const function = address_beside_program(library, name, needs, problem);
  if (function == nullptr) throw Error(problem);
  return reinterpret_cast<Function*>(function);
}

}  // namespace zerostep
