#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

namespace zerostep {

enum class Compression : uint8_t { None, Gzip, Zstandard };

// By the ending: .gz or .zst.
Compression compression_of(const std::string& path);
// A path without the ending of its compression: "a.jsonl" of "a.jsonl.gz".
std::string uncompressed_name(const std::string& path);

// The content of a .gz file (of one or several members) or a .zst file (of one or several frames), from its beginning to its end.
class CompressedFile {
 public:
  virtual ~CompressedFile() = default;
  // The next bytes, `size` of them or, at the end alone, fewer. InputError naming the file where it is damaged or cut short.
  virtual size_t read(char* out, size_t size) = 0;
  // Of the compressed file.
  virtual int64_t bytes_read() const = 0;
};
// `key` comes first in messages.
std::unique_ptr<CompressedFile> open_compressed(const std::string& path, const std::string& key);

}  // namespace zerostep
