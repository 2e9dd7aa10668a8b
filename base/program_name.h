#pragma once
#include <string>
#include <string_view>

namespace zerostep {

// The program as it was called, "build/zerostep", for the commands that messages name, so that they can be typed as they stand. "zerostep"
// until set_program_name() is called, before any other thread starts.
const std::string& program_name();
void set_program_name(const std::string& called);
// A text with that name in the place of each "zerostep " in it.
std::string as_called(std::string_view text);

// A text as a shell reads it as one word: within quotation marks where it has to be.
std::string shell_word(const std::string& text);

}  // namespace zerostep
