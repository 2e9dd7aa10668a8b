#include "runtime/data/compressed_file.h"

#include <zlib.h>
#include <zstd.h>

#include <algorithm>
#include <string_view>

#include "base/error.h"
#include "base/mapped_file.h"

namespace zerostep {
namespace {

constexpr std::string_view kGzip = ".gz", kZstandard = ".zst";

[[noreturn]] void fail_cut(const std::string& key, const std::string& path) {
  fail_input("{}: '{}' ends in the middle of its compressed content, after {} bytes: it is cut short; bring the whole file", key, path,
             MappedFile(path).num_bytes());
}

[[noreturn]] void fail_damaged(const std::string& key, const std::string& path, const char* kind, int64_t at, const char* reason) {
  fail_input("{}: '{}' is not {}, or damaged, at byte {}: {}; bring the file anew", key, path, kind, at, reason);
}

// The bytes of a file that is read once: what was read leaves the process's memory.
class ReadOnce {
 public:
  explicit ReadOnce(const std::string& path) : file_(path) {}
  const std::string& path() const { return file_.path(); }
  std::string_view rest() const { return file_.text().substr(at_); }
  size_t at() const { return at_; }
  void advance(size_t num_bytes) {
    at_ += num_bytes;
    // In strides: a call to the kernel for every part would cost more than it frees.
    if (at_ < released_ + kStride) return;
    file_.release(released_, at_ - released_);
    released_ = at_;
  }

 private:
  static constexpr size_t kStride = size_t{8} << 20;
  MappedFile file_;
  size_t at_ = 0, released_ = 0;
};

class GzipFile final : public CompressedFile {
 public:
  GzipFile(const std::string& path, std::string key) : file_(path), key_(std::move(key)) {
    constexpr int kGzipOnly = 16;
    if (inflateInit2(&stream_, MAX_WBITS + kGzipOnly) != Z_OK) fail_run("no memory to decompress '{}'", path);
  }
  ~GzipFile() override { inflateEnd(&stream_); }
  GzipFile(const GzipFile&) = delete;
  GzipFile& operator=(const GzipFile&) = delete;

  size_t read(char* out, size_t size) override {
    constexpr size_t kMost = size_t{1} << 30;  // zlib counts with 32 bits
    size_t done = 0;
    while (done < size && !at_end_) {
      const std::string_view rest = file_.rest();
      // A file without a member is none either.
      if (rest.empty()) fail_cut(key_, file_.path());
      stream_.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(rest.data()));
      stream_.avail_in = static_cast<uInt>(std::min(rest.size(), kMost));
      stream_.next_out = reinterpret_cast<Bytef*>(out + done);
      stream_.avail_out = static_cast<uInt>(std::min(size - done, kMost));
      const uInt given = stream_.avail_in, room = stream_.avail_out;
      const int status = inflate(&stream_, Z_NO_FLUSH);
      file_.advance(given - stream_.avail_in);
      done += room - stream_.avail_out;
      if (status == Z_STREAM_END) {
        end_member();
      } else if (status != Z_OK && status != Z_BUF_ERROR) {
        fail_damaged(key_, file_.path(), "gzip", bytes_read(), stream_.msg != nullptr ? stream_.msg : "it cannot be decompressed");
      }
    }
    return done;
  }
  int64_t bytes_read() const override { return static_cast<int64_t>(file_.at()); }

 private:
  // Zeros may fill up a file; anything else is another member.
  void end_member() {
    at_end_ = file_.rest().find_first_not_of('\0') == std::string_view::npos;
    if (!at_end_) inflateReset(&stream_);
  }

  ReadOnce file_;
  std::string key_;
  z_stream stream_ = {};
  bool at_end_ = false;
};

class ZstandardFile final : public CompressedFile {
 public:
  ZstandardFile(const std::string& path, std::string key) : file_(path), key_(std::move(key)), stream_(ZSTD_createDStream()) {
    if (stream_ == nullptr) fail_run("no memory to decompress '{}'", path);
    // `zstd --long=31` makes files that look back as far.
    ZSTD_DCtx_setParameter(stream_.get(), ZSTD_d_windowLogMax, ZSTD_dParam_getBounds(ZSTD_d_windowLogMax).upperBound);
  }

  size_t read(char* out, size_t size) override {
    ZSTD_outBuffer output = {out, size, 0};
    while (output.pos < output.size) {
      const std::string_view rest = file_.rest();
      if (rest.empty() && is_whole_) break;
      ZSTD_inBuffer input = {rest.data(), rest.size(), 0};
      const size_t output_before = output.pos;
      const size_t status = ZSTD_decompressStream(stream_.get(), &output, &input);
      file_.advance(input.pos);
      if (ZSTD_isError(status)) fail_damaged(key_, file_.path(), "zstd", bytes_read(), ZSTD_getErrorName(status));
      is_whole_ = status == 0;
      if (!is_whole_ && input.pos == 0 && output.pos == output_before) fail_cut(key_, file_.path());
    }
    return output.pos;
  }
  int64_t bytes_read() const override { return static_cast<int64_t>(file_.at()); }

 private:
  struct Free {
    void operator()(ZSTD_DStream* stream) const { ZSTD_freeDStream(stream); }
  };
  ReadOnce file_;
  std::string key_;
  std::unique_ptr<ZSTD_DStream, Free> stream_;
  bool is_whole_ = false;  // what was read so far is whole frames
};

}  // namespace

Compression compression_of(const std::string& path) {
  if (path.ends_with(kGzip)) return Compression::Gzip;
  return path.ends_with(kZstandard) ? Compression::Zstandard : Compression::None;
}

std::string uncompressed_name(const std::string& path) {
  switch (compression_of(path)) {
    case Compression::Gzip:
      return path.substr(0, path.size() - kGzip.size());
    case Compression::Zstandard:
      return path.substr(0, path.size() - kZstandard.size());
    case Compression::None:
      break;
  }
  return path;
}

std::unique_ptr<CompressedFile> open_compressed(const std::string& path, const std::string& key) {
  if (compression_of(path) == Compression::Gzip) return std::make_unique<GzipFile>(path, key);
  return std::make_unique<ZstandardFile>(path, key);
}

}  // namespace zerostep
