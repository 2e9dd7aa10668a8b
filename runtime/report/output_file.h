#pragma once
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "base/file_descriptor.h"

namespace zerostep {

// A file that grows, whoever else writes at its end too. Every write reaches the kernel before the call returns, or throws a RunError that
// names the path and the reason (a full disk: "space").
class OutputFile {
 public:
  enum class Mode { Truncate, Append };
  OutputFile() = default;  // writes nowhere
  OutputFile(const std::string& path, Mode mode);

  void write(std::string_view text);
  bool is_open() const { return file_.is_open(); }
  bool empty() const;  // has no content yet
  const std::string& path() const { return path_; }

 private:
  std::string path_;
  FileDescriptor file_;
};

// Cuts a file of lines before the first line for which `keep` is false; a last line without an end is cut too. Gives how many stay. A file
// that does not exist has none; what is no regular file is an InputError.
int64_t keep_lines(const std::string& path, const std::function<bool(std::string_view line)>& keep);

// Cuts a file of lines after the last line for which `keep` is true.
void cut_after_last(const std::string& path, const std::function<bool(std::string_view line)>& keep);

// The whole content at once: written beside its name, then renamed, so that a reader never sees half of it.
void write_file(const std::string& path, std::string_view text);

}  // namespace zerostep
