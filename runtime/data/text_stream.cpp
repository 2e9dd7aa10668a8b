#include "runtime/data/text_stream.h"

#include <algorithm>

#include "models/text_file.h"

namespace zerostep {

std::string TextPart::not_utf8_at(size_t position) const {
  if (mapped) return not_utf8(path, mapped->text(), static_cast<size_t>(text.data() - mapped->text().data()) + position);
  return not_utf8(path, text, position, lines_before, bytes_before);
}

TextStream::TextStream(const std::string& path, const std::string& key) : path_(path) {
  if (compression_of(path) == Compression::None) {
    mapped_ = std::make_shared<const MappedFile>(path);
    is_all_ = true;
  } else {
    compressed_ = open_compressed(path, key);
    buffer_ = std::make_shared<std::string>();
  }
}

std::string_view TextStream::look(size_t size) {
  if (mapped_) return mapped_->text().substr(at_);
  const size_t before = buffer_->size();
  if (before < size && !is_all_) {
    buffer_->resize(size);
    buffer_->resize(before + compressed_->read(buffer_->data() + before, size - before));
    is_all_ = buffer_->size() < size;
  }
  return *buffer_;
}

TextPart TextStream::take(size_t size) {
  TextPart part;
  part.path = path_;
  if (mapped_) {
    part.mapped = mapped_;
    part.text = mapped_->text().substr(at_, size);
    at_ += size;
    // In strides: a call to the kernel for every part would cost more than it frees.
    if (at_ > released_ + kKept + kKept / 8) {
      mapped_->release(released_, at_ - kKept - released_);
      released_ = at_ - kKept;
    }
    return part;
  }
  auto rest = std::make_shared<std::string>(buffer_->substr(size));
  buffer_->resize(size);
  part.decompressed = buffer_;
  part.text = *buffer_;
  part.lines_before = lines_before_;
  part.bytes_before = bytes_before_;
  buffer_ = std::move(rest);
  const size_t line_begin = part.text.rfind('\n') + 1;  // npos + 1 is 0
  lines_before_ += std::count(part.text.begin(), part.text.end(), '\n');
  bytes_before_ = static_cast<int64_t>(size - line_begin) + (line_begin == 0 ? bytes_before_ : 0);
  return part;
}

int64_t TextStream::bytes_read() const { return mapped_ ? static_cast<int64_t>(at_) : compressed_->bytes_read(); }

}  // namespace zerostep
