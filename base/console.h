#pragma once
#include <fmt/format.h>

#include <string>
#include <string_view>

// The standard output, which holds results, and the standard error, which holds what is said beside them.
namespace zerostep {

// Opens /dev/null in place of standard streams that the process was started without, so that no file it opens takes their numbers. To be
// called before anything is opened.
void open_missing_streams();

// Thrown where the standard output is a pipe that nobody reads any more: there is nobody to tell.
struct OutputClosed {};

// Text to the standard output, which buffers it. RunError with the reason where it cannot be written; OutputClosed.
void print_out(std::string_view text);
template <typename... Args>
void print_out(fmt::format_string<Args...> text, Args&&... args) {
  print_out(std::string_view(fmt::format(text, std::forward<Args>(args)...)));
}
// Writes what is buffered. The errors of print_out(), where this or any write to the standard output before has failed.
void flush_out();
// A write to the standard output has failed, with errno `reason`, and whoever wrote goes on.
void remember_failed_output(int reason);

// The text as a terminal may show it: control characters but newlines and tabs are written out, "\x1b".
std::string visible(std::string_view text);

// Visible text to the standard error, at once. Where it cannot be written it is lost, and nothing else changes.
void print_err(std::string_view text);
template <typename... Args>
void print_err(fmt::format_string<Args...> text, Args&&... args) {
  print_err(std::string_view(fmt::format(text, std::forward<Args>(args)...)));
}
// What a terminal has room for; 24 lines of 80 columns where the file is none, or it does not say.
struct TerminalSize {
  int lines = 24, columns = 80;
};
TerminalSize terminal_size(int file);

// Text in place of what stood in the last line of a terminal that the standard error is.
void show_status(std::string_view text);
// Takes away what stands there, where anything does. A signal's handler may call it.
void clear_status_at_end();

}  // namespace zerostep
