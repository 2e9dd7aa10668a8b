#pragma once
#include <string>

namespace CLI {
class App;
}

namespace zerostep {

// What is wrong with arguments that `commands` could not be parsed from, and what was meant: the nearest command or option, or the nearest
// thing that exists where there is no such command. `text`: CLI11's words, for what is none of these.
std::string argument_error(const CLI::App& commands, std::string text, int argc, char** argv);

}  // namespace zerostep
