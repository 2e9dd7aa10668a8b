#pragma once
#include <initializer_list>
#include <string>
#include <utility>

#include "base/error.h"

namespace zerostep {

// What the options of every family are asked. Each throws InputError naming the keys with what stands before them in their file.
class OptionChecks {
 public:
  explicit OptionChecks(const std::string& key_prefix) : prefix_(key_prefix) {}

  using Named = std::pair<const char*, int64_t>;
  using NamedShare = std::pair<const char*, double>;

  void positive(std::initializer_list<Named> options) const {
    for (const auto& [name, value] : options)
      if (value <= 0) fail_input("{}{} is {}; expected a positive number", prefix_, name, value);
  }
  void above_zero(const char* name, double value) const {
    if (!(value > 0)) fail_input("{}{} is {}; expected a number above 0", prefix_, name, value);
  }
  void probabilities(std::initializer_list<NamedShare> options) const {
    for (const auto& [name, value] : options)
      if (!(value >= 0 && value <= 1)) fail_input("{}{} is {}; expected a probability from 0 to 1", prefix_, name, value);
  }
  // `why`: what each part needs.
  void divides(const Named& option, const Named& by, const char* why) const {
    if (option.second % by.second != 0)
      fail_input("{}{} {} does not divide by {}{} {}: {}", prefix_, option.first, option.second, prefix_, by.first, by.second, why);
  }

 private:
  const std::string& prefix_;
};

constexpr const char* kEqualHeads = "every head needs the same width";

}  // namespace zerostep
