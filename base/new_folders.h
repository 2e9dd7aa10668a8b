#pragma once
#include <filesystem>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

namespace zerostep {

// Folders that this process makes. They go again with the object, the deepest first and only while nothing is in them, unless they are
// kept.
class NewFolders {
 public:
  NewFolders() = default;
  ~NewFolders() { remove(); }
  NewFolders(NewFolders&& other) noexcept { std::swap(made_, other.made_); }
  NewFolders& operator=(NewFolders&& other) noexcept {
    std::swap(made_, other.made_);
    return *this;
  }

  // Makes a folder and those above it where they are missing. Gives "" where it is there then, else why not, as an end of "FOLDER ...":
  // "is a file", "cannot be made: Permission denied".
  std::string make(const std::filesystem::path& folder);
  // Makes a folder whose parent is there; false: something of that name is there already, or `error` says what is wrong.
  bool make_one(const std::filesystem::path& folder, std::error_code& error);
  // The deepest of those that were made.
  std::vector<std::string> made() const;
  // From here on they stay.
  void keep() { made_.clear(); }
  void remove();

 private:
  std::vector<std::filesystem::path> made_;  // each behind those above it
};

}  // namespace zerostep
