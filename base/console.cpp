#include "base/console.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "base/error.h"

namespace zerostep {
namespace {

std::atomic<int> failed_with{0};       // errno of the first write to the standard output that failed
std::atomic<bool> has_status = false;  // a status stands in the last line of the terminal

[[noreturn]] void fail_output() {
  const int reason = failed_with.load();
  if (reason == EPIPE) throw OutputClosed();
  fail_run("cannot write to the standard output: {}", std::strerror(reason));
}

void write_err(std::string_view text) {
  std::fwrite(text.data(), 1, text.size(), stderr);
  std::fflush(stderr);
}

}  // namespace

void open_missing_streams() {
  for (const int stream : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO})
    while (::fcntl(stream, F_GETFD) < 0 && errno == EBADF)
      if (::open("/dev/null", stream == STDIN_FILENO ? O_RDONLY : O_WRONLY) < 0) return;
}

void remember_failed_output(int reason) {
  int none = 0;
  failed_with.compare_exchange_strong(none, reason);
}

void print_out(std::string_view text) {
  if (std::fwrite(text.data(), 1, text.size(), stdout) == text.size()) return;
  remember_failed_output(errno);
  fail_output();
}

void flush_out() {
  if (std::fflush(stdout) != 0) remember_failed_output(errno);
  if (failed_with.load() != 0) fail_output();
}

std::string visible(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto c = static_cast<unsigned char>(text[i]);
    // U+0080 to U+009F, which UTF-8 writes as C2 80 to C2 9F, are control characters too.
    const bool is_wide = c == 0xC2 && i + 1 < text.size() && (static_cast<unsigned char>(text[i + 1]) & 0xE0) == 0x80;
    if (is_wide)
      out += fmt::format("\\x{:02x}", static_cast<unsigned char>(text[++i]));
    else if ((c < 0x20 && c != '\n' && c != '\t') || c == 0x7F)
      out += fmt::format("\\x{:02x}", c);
    else
      out += text[i];
  }
  return out;
}

void print_err(std::string_view text) { write_err(visible(text)); }

void show_status(std::string_view text) {
  has_status = !text.empty();
  write_err(fmt::format("\r\x1b[K{}", text));
}

void clear_status_at_end() {
  constexpr std::string_view kClear = "\r\x1b[K";
  if (has_status && ::write(STDERR_FILENO, kClear.data(), kClear.size()) < 0) return;  // lost, as all that cannot be written there
}

TerminalSize terminal_size(int file) {
  winsize size{};
  TerminalSize out;
  if (::ioctl(file, TIOCGWINSZ, &size) != 0) return out;
  if (size.ws_row > 0) out.lines = size.ws_row;
  if (size.ws_col > 0) out.columns = size.ws_col;
  return out;
}

}  // namespace zerostep
