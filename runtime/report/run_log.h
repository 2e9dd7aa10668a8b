#pragma once
#include <cstdio>
#include <string>
#include <string_view>

#include "runtime/report/output_file.h"

namespace zerostep {

// What a run says: lines on stdout and in log.txt, and, where stdout is a terminal, one status line that is redrawn in place below them.
// Only rank 0 has one that speaks.
class RunLog {
 public:
  struct Terminal {
    bool present = false;
    int columns = 80;
  };
  // A rank that keeps silent.
  RunLog() = default;
  RunLog(std::FILE* out, Terminal terminal) : out_(out), terminal_(terminal) {}
  // Lines from here on, and those said before, go to the file too.
  void open(const std::string& path, bool append = false);

  void line(std::string_view text);
  // To stderr as "warning: ...", and to the file.
  void warn(std::string_view text);
  // Into the file alone.
  void note(std::string_view text);
  // Redraws the status line; nothing in a pipe.
  void status(std::string_view text);
  void clear_status();
  bool has_terminal() const { return terminal_.present; }

 private:
  void keep(std::string_view text);
  void show(const std::string& text);
  std::FILE* out_ = nullptr;
  Terminal terminal_;
  bool status_shown_ = false;
  std::string early_;
  OutputFile file_;
};

// The terminal that stdout ends in. mpirun gives its ranks a pseudo-terminal of their own, so there the parent's stdout decides.
RunLog::Terminal stdout_terminal();

}  // namespace zerostep
