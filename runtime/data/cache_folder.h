#pragma once
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/file_descriptor.h"
#include "runtime/data/corpus_files.h"

namespace zerostep {

// The folder of token caches: `<key>.tokens` by content, `<stamp hash>.index` from the stamps of files to a fact about their content, and
// `.lock` files.
class CacheFolder {
 public:
  // Creates the folder. InputError naming it when it cannot be made.
  CacheFolder(std::string path, std::function<void(const std::string&)> warn);

  std::string file(const std::string& name) const { return path_ + "/" + name; }
  const std::function<void(const std::string&)>& warn() const { return warn_; }

  // Held until destruction, or by the end of the process; also between threads of one process.
  using Lock = FileDescriptor;
  // Waits until nobody else holds it. Nothing in a folder that may not be written.
  std::optional<Lock> lock(const std::string& name) const;

  // What was remembered of files with these stamps.
  std::optional<std::string> recall(const std::string& stamp_hash) const;
  // Remembers a line of text about files looked at at a time (ns since 1970), unless one was then so young that a change might keep its
  // stamp. A failure is told to `warn`.
  void remember(const std::string& stamp_hash, const std::vector<FileStamp>& stamps, int64_t looked_at_ns, const std::string& text) const;
  // Renames and makes the name durable.
  void publish(const std::string& temporary, const std::string& name) const;

 private:
  std::string path_;
  std::function<void(const std::string&)> warn_;
};

}  // namespace zerostep
