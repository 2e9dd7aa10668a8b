#pragma once
#include <exception>
#include <functional>
#include <string>

namespace zerostep::testing {

// What the Error that a call throws says; one of another type goes on.
template <typename Error = std::exception>
std::string message_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.what();
  }
  return "nothing thrown";
}

}  // namespace zerostep::testing
