#pragma once
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <charconv>
#include <string>
#include <type_traits>
#include <vector>

#include "launch/commands/commands.h"

// Options that several commands have.

namespace zerostep {

constexpr int64_t kMostRanks = 1 << 20;

// Of options: a number and nothing else; NaN is within nothing.
template <typename Number>
CLI::Validator number(Number low, Number high) {
  constexpr bool kIsWhole = std::is_integral_v<Number>;
  return CLI::Validator(
      [low, high](std::string& text) {
        Number value{};
        const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
        if (error != std::errc() || end != text.data() + text.size() || !(value >= low && value <= high))
          return fmt::format("is '{}'; expected a {} from {} to {}", text, kIsWhole ? "whole number" : "number", low, high);
        if (kIsWhole) text = fmt::format("{}", value);
        return std::string();
      },
      fmt::format("{} in [{} - {}]", kIsWhole ? "INT" : "FLOAT", low, high));
}

// --set; `about`: what it changes.
inline void add_set(CLI::App* sub, std::vector<Setting>& set, const std::string& about) {
  sub->add_option_function<std::vector<std::string>>(
         "--set",
         [&set](const std::vector<std::string>& texts) {
           for (const std::string& text : texts) set.push_back({text, "--set " + text});
         },
         about + "; VALUE is JSON, else a string; may be given several times")
      ->type_name("PATH=VALUE")
      ->allow_extra_args(false);
}

// The configuration file of a command, and --set.
inline void add_file(CLI::App* sub, ConfigArguments& arguments, bool required = true) {
  CLI::Option* file = sub->add_option("FILE", arguments.file, "the configuration file (JSON with comments)");
  if (required) file->required();
  add_set(sub, arguments.set, "change one value of the file");
}

// Of a command that computes on a device, or plans for one.
inline void add_device(CLI::App* sub, ConfigArguments& arguments) {
  sub->add_option_function<std::string>(
         "--device",
         [&arguments](const std::string& device) {
           arguments.set.push_back({"run.device=\"" + device + "\"", "--device " + device});
         },
         "cpu, cuda or auto (a GPU where one answers); what run.device says by default")
      ->type_name("cpu|cuda|auto");
}

// A whole number, whose default the help tells.
template <typename Number>
void add_count(CLI::App* sub, const char* name, Number& value, const char* about, int64_t low = 0, int64_t high = int64_t{1} << 40) {
  sub->add_option(name, value, about)->transform(number(low, high))->capture_default_str();
}

}  // namespace zerostep
