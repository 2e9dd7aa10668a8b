#pragma once
#include <exception>
#include <functional>
#include <string>

namespace zerostep::testing {

// What a call throws says.
inline std::string message_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const std::exception& error) {
    return error.what();
  }
  return "nothing thrown";
}

}  // namespace zerostep::testing
