#pragma once
#include <fmt/format.h>

#include <stdexcept>

namespace zerostep {

// The user's input is wrong (a file, a key, a value, an argument): exit status 2, nothing was started.
// The text is one paragraph: what was found, what was expected, where, what to do.
class InputError : public std::invalid_argument {
 public:
  using std::invalid_argument::invalid_argument;
};

// The run failed (a full disk, a dead rank, a NaN): exit status 1. The text names rank, unit and operation where there are any.
class RunError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// A protocol of this program is misused (a slot read before it is gathered, say): a fault of the program, never of its user.
class ProtocolError : public std::logic_error {
 public:
  using std::logic_error::logic_error;
};

template <typename... Args>
[[noreturn]] void fail_input(fmt::format_string<Args...> text, Args&&... args) {
  throw InputError(fmt::format(text, std::forward<Args>(args)...));
}
template <typename... Args>
[[noreturn]] void fail_run(fmt::format_string<Args...> text, Args&&... args) {
  throw RunError(fmt::format(text, std::forward<Args>(args)...));
}
template <typename... Args>
[[noreturn]] void fail_protocol(fmt::format_string<Args...> text, Args&&... args) {
  throw ProtocolError(fmt::format(text, std::forward<Args>(args)...));
}

}  // namespace zerostep
