#include "base/new_folders.h"

#include <fmt/format.h>

#include <algorithm>

namespace zerostep {
namespace fs = std::filesystem;
namespace {

// A link on the way to a folder that leads to nothing; "": there is none.
std::string dangling_link(const fs::path& folder) {
  std::error_code error;
  fs::path walked;
  for (const fs::path& part : folder) {
    walked /= part;
    if (!fs::exists(walked, error)) return fs::is_symlink(fs::symlink_status(walked, error)) ? walked.string() : "";
  }
  return "";
}

}  // namespace

std::string NewFolders::make(const fs::path& folder) {
  std::error_code error, ignored;
  std::vector<fs::path> missing;
  for (fs::path at = fs::absolute(folder); !at.empty() && !fs::exists(at, error) && at != at.parent_path(); at = at.parent_path())
    missing.insert(missing.begin(), at);
  if (const std::string link = dangling_link(fs::absolute(folder)); !link.empty())
    return fmt::format("cannot be made: {} is a link to {}, where nothing is", link, fs::read_symlink(link, ignored).string());
  for (const fs::path& one : missing)
    if (!make_one(one, error) && error) return fmt::format("cannot be made: {}", error.message());
  return fs::is_directory(folder, error) ? "" : "is a file";
}

bool NewFolders::make_one(const fs::path& folder, std::error_code& error) {
  if (!fs::create_directory(folder, error)) return false;
  made_.push_back(folder);
  return true;
}

std::vector<std::string> NewFolders::made() const {
  std::vector<std::string> out;
  for (const fs::path& folder : made_)
    if (std::none_of(made_.begin(), made_.end(), [&](const fs::path& other) { return other.parent_path() == folder; }))
      out.push_back(folder.string());
  return out;
}

void NewFolders::remove() {
  std::error_code ignored;
  for (; !made_.empty(); made_.pop_back()) fs::remove(made_.back(), ignored);  // a folder with something in it stays
}

}  // namespace zerostep
