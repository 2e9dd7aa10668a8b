#pragma once
#include <exception>
#include <string>

namespace zerostep {

// What an error says, without the source places and the C++ stack trace that LibTorch's errors carry.
std::string error_text(const std::exception& error);

}  // namespace zerostep
