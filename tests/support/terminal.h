#pragma once
#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <vector>

#include "base/file_descriptor.h"

namespace zerostep::testing {

// A terminal that a program, or a file of this process, may have as its output.
class Terminal {
 public:
  explicit Terminal(int columns, int lines = 24)
      : file_(::posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC)), columns_(static_cast<size_t>(columns)), lines_(static_cast<size_t>(lines)) {
    const winsize size{.ws_row = static_cast<uint16_t>(lines), .ws_col = static_cast<uint16_t>(columns), .ws_xpixel = 0, .ws_ypixel = 0};
    if (!file_.is_open() || ::grantpt(file_.get()) != 0 || ::unlockpt(file_.get()) != 0 || ::ioctl(file_.get(), TIOCSWINSZ, &size) != 0)
      throw std::runtime_error("there are no terminals here");
    // Kept open: what is written stays until it is read.
    other_end_ = FileDescriptor(::open(name().c_str(), O_RDWR | O_NOCTTY | O_CLOEXEC));
  }
  std::string name() const { return ::ptsname(file_.get()); }
  // What was written, until it has a part, or for ten seconds.
  const std::string& read_until(const std::string& part) {
    for (int i = 0; i < 1000 && text_.find(part) == std::string::npos; ++i) read(10);
    return text_;
  }
  // And what comes until nothing comes for a while.
  const std::string& read_all() {
    while (read(200)) {
    }
    return text_;
  }
  // The lines that stand there after what was read, those that have left at the top among them: the movements of
  // experiments/text/live_lines.h are applied, a line that is too long goes on in the next one, and blanks at the end are left out.
  std::vector<std::string> shown() const {
    std::vector<std::vector<std::string>> cells(1);  // of a line the characters
    size_t line = 0, column = 0;
    const auto go_down = [&] {
      if (++line == cells.size()) cells.emplace_back();
    };
    for (size_t i = 0; i < text_.size(); ++i) {
      const char c = text_[i];
      if (c == '\r') {
        column = 0;
      } else if (c == '\n') {
        go_down();
      } else if ((static_cast<unsigned char>(c) & 0xC0U) == 0x80U) {  // goes on with the character before it
        cells[line].at(column - 1) += c;
      } else if (c != '\x1b') {
        if (column == columns_) {
          go_down();
          column = 0;
        }
        cells[line].resize(std::max(cells[line].size(), column + 1), " ");
        cells[line][column++] = c;
      } else {
        const size_t end = text_.find_first_not_of("[0123456789", i + 1);
        const char what = text_.at(end);
        if (what == 'F') {  // up, as far as the terminal reaches
          const size_t top = cells.size() > lines_ ? cells.size() - lines_ : 0, by = std::stoul(text_.substr(i + 2));
          line = line > top + by ? line - by : top;
          column = 0;
        } else if (what == 'K' || what == 'J') {  // erases to the end of the line, or of all
          cells[line].resize(std::min(cells[line].size(), column));
          if (what == 'J') cells.resize(line + 1);
        } else {
          throw std::runtime_error("a terminal's sequence that this one does not know");
        }
        i = end;
      }
    }
    std::vector<std::string> out;
    for (const std::vector<std::string>& of_line : cells) {
      std::string& text = out.emplace_back();
      for (const std::string& cell : of_line) text += cell;
      text.erase(text.find_last_not_of(' ') + 1);
    }
    while (!out.empty() && out.back().empty()) out.pop_back();
    return out;
  }

 private:
  bool read(int milliseconds) {
    pollfd wanted{file_.get(), POLLIN, 0};
    char part[4096];
    if (::poll(&wanted, 1, milliseconds) <= 0) return false;
    const ssize_t count = ::read(file_.get(), part, sizeof(part));
    text_.append(part, static_cast<size_t>(std::max<ssize_t>(0, count)));
    return count > 0;
  }
  FileDescriptor file_, other_end_;
  std::string text_;
  size_t columns_, lines_;
};

}  // namespace zerostep::testing
