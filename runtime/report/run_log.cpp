#include "runtime/report/run_log.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>

#include "base/console.h"
#include "base/file_descriptor.h"
#include "runtime/report/columns.h"

namespace zerostep {
namespace {

constexpr const char* kClearLine = "\r\033[2K";

}  // namespace

void RunLog::open(const std::string& path, bool append) {
  file_ = OutputFile(path, append ? OutputFile::Mode::Append : OutputFile::Mode::Truncate);
  file_.write(early_);
  early_.clear();
}

void RunLog::keep(std::string_view text) {
  if (file_.is_open())
    file_.write(std::string(text) + "\n");
  else
    early_ += std::string(text) + "\n";
}

// A run goes on without anyone who sees it.
void RunLog::show(const std::string& text) {
  if (std::fwrite(text.data(), 1, text.size(), out_) < text.size() || std::fflush(out_) != 0) remember_failed_output(errno);
}

void RunLog::line(std::string_view text) {
  if (out_ == nullptr) return;
  clear_status();
  const std::string said = visible(text);
  show(said + "\n");
  keep(said);
}

void RunLog::warn(std::string_view text) {
  if (out_ == nullptr) return;
  clear_status();
  const std::string said = fmt::format("warning: {}", text);
  print_err("{}\n", said);
  keep(said);
}

void RunLog::note(std::string_view text) {
  if (out_ != nullptr) keep(text);
}

void RunLog::status(std::string_view text) {
  if (out_ == nullptr || !terminal_.present) return;
  show(kClearLine + std::string(first_columns(text, terminal_.columns - 1)));
  status_shown_ = true;
}

void RunLog::clear_status() {
  if (!status_shown_) return;
  show(kClearLine);
  status_shown_ = false;
}

RunLog::Terminal stdout_terminal() {
  if (::isatty(STDOUT_FILENO) == 0) return {};
  if (std::getenv("OMPI_COMM_WORLD_SIZE") == nullptr) return {true, terminal_size(STDOUT_FILENO).columns};
  const FileDescriptor parent(::open(fmt::format("/proc/{}/fd/1", ::getppid()).c_str(), O_WRONLY | O_NOCTTY | O_CLOEXEC | O_NONBLOCK));
  if (!parent.is_open()) return {};
  return {::isatty(parent.get()) != 0, terminal_size(parent.get()).columns};
}

}  // namespace zerostep
