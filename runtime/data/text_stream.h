#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "base/mapped_file.h"
#include "runtime/data/compressed_file.h"

namespace zerostep {

// A part of a text file, which keeps what it shows.
struct TextPart {
  std::shared_ptr<const MappedFile> mapped;         // of a plain file
  std::shared_ptr<const std::string> decompressed;  // of a compressed one
  std::string_view text;
  std::string path;
  // Of a compressed file: what lies before the part, whole lines and then bytes of the line in which it begins.
  int64_t lines_before = 0, bytes_before = 0;

  // not_utf8 (models/text_file.h) of one of its bytes.
  std::string not_utf8_at(size_t position) const;
};

// A text file from its beginning to its end, in parts cut where the caller says; a compressed one as its content. A plain file is mapped,
// and its pages leave the process's memory kKept bytes behind the last part that was taken: parts in work lie before that. Of a compressed
// file no more is in memory than was looked at.
class TextStream {
 public:
  static constexpr size_t kKept = size_t{64} << 20;
  // `key` comes first in messages. InputError as MappedFile's and CompressedFile's, also while it is read.
  TextStream(const std::string& path, const std::string& key);

  // What follows: at least `size` bytes, or all that is left. Valid until the next call.
  std::string_view look(size_t size);
  // Whether nothing follows what was looked at.
  bool is_all() const { return is_all_; }
  // Takes the first bytes of what was looked at.
  TextPart take(size_t size);
  // How far the stream has come in the file, in its own bytes.
  int64_t bytes_read() const;

 private:
  std::string path_;
  std::shared_ptr<const MappedFile> mapped_;
  size_t at_ = 0, released_ = 0;  // in the mapped file
  std::unique_ptr<CompressedFile> compressed_;
  std::shared_ptr<std::string> buffer_;
  int64_t lines_before_ = 0, bytes_before_ = 0;
  bool is_all_ = false;
};

}  // namespace zerostep
