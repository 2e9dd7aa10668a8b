#include "runtime/data/corpus_files.h"

#include <glob.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <vector>

#include "base/error.h"
#include "runtime/data/compressed_file.h"
#include "runtime/data/document_source.h"
#include "runtime/data/saved_dataset.h"

namespace zerostep {
namespace {

constexpr const char* kCorpora = ".txt, .jsonl, .parquet, .arrow or .bin";
constexpr const char* kTables = ".tsv, .csv, .jsonl, .parquet or .arrow";

std::string where(const std::string& path) {
  return path.starts_with('/') ? "" : fmt::format(" (from the folder {})", std::filesystem::current_path().string());
}

bool is_glob(const std::string& path) { return path.find_first_of("*?[{") != std::string::npos; }

// glob's callback has no other way to hand over what failed.
thread_local std::string glob_error;
int remember_glob_error(const char* path, int error) {
  glob_error = fmt::format("{}: {}", path, std::strerror(error));
  return error == ENOTDIR || error == ENOENT ? 0 : 1;
}

// Ends a message about files that are not there.
std::string advice_of(const DocumentSource& source) { return source.how_to_get.empty() ? "" : "; " + source.how_to_get; }

std::vector<std::string> matches_of(const std::string& pattern, const DocumentSource& source, const char* expected) {
  const std::string& key = source.key;
  struct Matches {
    glob_t found = {};
    ~Matches() { globfree(&found); }
  } matches;
  glob_error.clear();
  const int status = glob(pattern.c_str(), GLOB_NOSORT | GLOB_BRACE, remember_glob_error, &matches.found);
  if (status != 0 && status != GLOB_NOMATCH) {
    fail_input("{}: the files of '{}'{} cannot be listed: {}", key, pattern, where(pattern),
               glob_error.empty() ? "out of memory" : glob_error);
  }
  std::vector<std::string> files;
  for (size_t i = 0; i < matches.found.gl_pathc; ++i) {
    struct stat status_of_match = {};
    const std::string match = matches.found.gl_pathv[i];
    if (::stat(match.c_str(), &status_of_match) == 0 && (!S_ISDIR(status_of_match.st_mode) || is_saved_dataset(match)))
      files.push_back(match);
  }
  if (files.empty())
    fail_input("{}: no file matches '{}'{}; {} files are expected{}", key, pattern, where(pattern), expected, advice_of(source));
  std::sort(files.begin(), files.end());
  return files;
}

// A glob for the files of a folder of none of ours: by the ending that the first of them has.
std::string files_in(const std::string& folder, const char* expected) {
  std::error_code ignored;
  std::vector<std::string> endings;
  for (const auto& entry : std::filesystem::directory_iterator(folder, ignored)) {
    const std::string ending = entry.path().extension().string();
    if (!ending.empty() && std::string_view(expected).find(ending) != std::string_view::npos) endings.push_back(ending);
  }
  std::sort(endings.begin(), endings.end());
  return fmt::format("{}/*{}", folder, endings.empty() ? ".txt" : endings.front());
}

void check_file(const std::string& path, const DocumentSource& source, const char* expected) {
  const std::string& key = source.key;
  struct stat status = {};
  if (::stat(path.c_str(), &status) != 0) {
    fail_input("{}: '{}'{} cannot be found: {}; a {} file, or a glob of them, is expected{}", key, path, where(path), std::strerror(errno),
               expected, advice_of(source));
  }
  if (S_ISDIR(status.st_mode))
    fail_input("{}: '{}'{} is a directory, and none that save_to_disk of datasets made; name its files, with a glob such as '{}'", key,
               path, where(path), files_in(path, expected));
  if (!S_ISREG(status.st_mode)) fail_input("{}: '{}'{} is a device, pipe or socket; a regular file is expected", key, path, where(path));
  if (::access(path.c_str(), R_OK) != 0) fail_input("{}: '{}'{} cannot be read: {}", key, path, where(path), std::strerror(errno));
}

std::vector<std::string> expand(const DocumentSource& source, const char* expected) {
  const std::string& key = source.key;
  if (source.paths.empty()) fail_input("{}: no file is named; a path or glob of {} files, or a list of them, is expected", key, expected);
  std::vector<std::string> named;
  for (const std::string& path : source.paths) {
    std::error_code ignored;  // a name that cannot be looked up is no literal name
    if (is_glob(path) && !std::filesystem::exists(path, ignored)) {
      const auto matches = matches_of(path, source, expected);
      named.insert(named.end(), matches.begin(), matches.end());
    } else {
      named.push_back(path);
    }
  }
  std::vector<std::string> files;
  for (const std::string& path : named) {
    if (is_saved_dataset(path)) {
      const auto parts = saved_dataset_files(path, source);
      files.insert(files.end(), parts.begin(), parts.end());
      continue;
    }
    check_file(path, source, expected);
    if (!source.split.empty())
      fail_input("{}: '{}' is a file, which has no splits: {} is for folders that save_to_disk of datasets made", key, path,
                 source.ways.split);
    files.push_back(path);
  }
  for (const std::string& file : files) check_file(file, source, expected);
  return files;
}

}  // namespace

CorpusKind corpus_kind(const std::string& path, const std::string& key) {
  const std::string name = uncompressed_name(path);
  if (name.ends_with(".txt")) return CorpusKind::Text;
  if (name.ends_with(".jsonl")) return CorpusKind::JsonLines;
  if (path.ends_with(".bin")) return CorpusKind::Tokens;
  if (path.ends_with(".parquet")) return CorpusKind::Parquet;
  if (path.ends_with(".arrow")) return CorpusKind::Arrow;
  fail_input(
      "{}: '{}' has an unknown ending; .txt (one document), .jsonl (one document a line), both also with .gz or .zst behind it, .parquet "
      "or "
      ".arrow (one document a row) or .bin (tokens) is expected",
      key, path);
}

FileStamp stamp_of(const std::string& path) {
  struct stat status = {};
  if (::stat(path.c_str(), &status) != 0) fail_input("'{}' cannot be read: {}", path, std::strerror(errno));
  return {std::filesystem::absolute(path).string(), static_cast<int64_t>(status.st_size),
          static_cast<int64_t>(status.st_mtim.tv_sec) * 1000000000 + status.st_mtim.tv_nsec, static_cast<uint64_t>(status.st_dev),
          static_cast<uint64_t>(status.st_ino)};
}

std::string name_of(const DocumentSource& source) {
  if (!source.name.empty() || source.paths.empty()) return source.name;
  return source.paths.size() == 1 ? source.paths[0] : fmt::format("{} and {} more", source.paths[0], source.paths.size() - 1);
}

std::vector<std::string> corpus_files(const DocumentSource& source) {
  std::vector<std::string> files = expand(source, kCorpora);
  for (const std::string& file : files) corpus_kind(file, source.key);
  return files;
}

TableKind table_kind(const std::string& path, const std::string& key) {
  const std::string name = uncompressed_name(path);
  if (name.ends_with(".tsv")) return TableKind::Tabs;
  if (name.ends_with(".csv")) return TableKind::Commas;
  if (name.ends_with(".jsonl")) return TableKind::JsonLines;
  if (path.ends_with(".parquet")) return TableKind::Parquet;
  if (path.ends_with(".arrow")) return TableKind::Arrow;
  fail_input(
      "{}: '{}' has an unknown ending; .tsv, .csv or .jsonl, also with .gz or .zst behind it, .parquet or .arrow (one sample a row) is "
      "expected for classification",
      key, path);
}

std::vector<std::string> table_files(const DocumentSource& source) {
  std::vector<std::string> files = expand(source, kTables);
  for (const std::string& file : files) table_kind(file, source.key);
  return files;
}

}  // namespace zerostep
