#pragma once
#include <cstdint>
#include <string>

namespace zerostep {

enum class CorpusKind : uint8_t { Text, JsonLines, Tokens, Parquet, Arrow };

// By the ending: .txt, .jsonl (both also with .gz or .zst behind it), .bin, .parquet or .arrow; an InputError that begins with `key` for
// any other.
CorpusKind corpus_kind(const std::string& path, const std::string& key);

enum class TableKind : uint8_t { Tabs, Commas, JsonLines, Parquet, Arrow };

// By the ending: .tsv, .csv, .jsonl (also with .gz or .zst behind it), .parquet or .arrow; an InputError that begins with `key` for any
// other.
TableKind table_kind(const std::string& path, const std::string& key);

// What the file system tells of a file without reading it. The same stamp means the same content, except for a file changed within its
// clock's tick.
struct FileStamp {
  std::string path;  // absolute
  int64_t num_bytes = 0, modified_ns = 0;
  uint64_t device = 0, inode = 0;
  bool operator==(const FileStamp&) const = default;
};
FileStamp stamp_of(const std::string& path);

}  // namespace zerostep
