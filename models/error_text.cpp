#include "models/error_text.h"

#include <c10/util/Exception.h>

#include <cerrno>
#include <cstring>
#include <new>

#include "base/process_limits.h"

namespace zerostep {

std::string error_text(const std::exception& error) {
  if (dynamic_cast<const std::bad_alloc*>(&error) != nullptr)
    return "the memory of this machine is exhausted (std::bad_alloc)" + address_limit();
  const auto* library_error = dynamic_cast<const c10::Error*>(&error);
  const std::string text = library_error != nullptr ? library_error->what_without_backtrace() : error.what();
  return text.find(std::strerror(ENOMEM)) == std::string::npos ? text : text + address_limit();
}

}  // namespace zerostep
