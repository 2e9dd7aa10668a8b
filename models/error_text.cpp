#include "models/error_text.h"

#include <c10/util/Exception.h>

#include <new>

namespace zerostep {

std::string error_text(const std::exception& error) {
  if (const auto* library_error = dynamic_cast<const c10::Error*>(&error)) return library_error->what_without_backtrace();
  if (dynamic_cast<const std::bad_alloc*>(&error) != nullptr) return "the memory of this machine is exhausted (std::bad_alloc)";
  return error.what();
}

}  // namespace zerostep
