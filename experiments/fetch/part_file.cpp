#include "experiments/fetch/part_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "base/error.h"
#include "offload/disk.h"

namespace zerostep {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

[[noreturn]] void fail_part(const char* what, const std::string& path) {
  const int error = errno;
  fail_run("cannot {} '{}': {}{}", what, path, std::strerror(error),
           error == ENOSPC || error == EDQUOT ? "; make space there: the same command goes on from what is here" : "");
}

// Git names a file by the SHA-1 of this head and its content.
std::unique_ptr<Digest> digest_of(DigestKind kind, int64_t num_bytes) {
  auto digest = open_digest(kind);
  if (kind == DigestKind::Sha1) digest->add(fmt::format("blob {}", num_bytes) + '\0');
  return digest;
}

// Hands over what a file holds; gives how much that is.
int64_t add_content(Digest& digest, int file, const std::string& path) {
  std::vector<char> buffer(size_t{1} << 20);
  for (int64_t count = 0;;) {
    const ssize_t read = ::pread(file, buffer.data(), buffer.size(), count);
    if (read < 0 && errno == EINTR) continue;
    if (read < 0) fail_part("read", path);
    if (read == 0) return count;
    digest.add({buffer.data(), static_cast<size_t>(read)});
    count += read;
  }
}

}  // namespace

PartFile::PartFile(std::string path, const HubFile& file) : path_(std::move(path)), file_(file) {
  part_ = FileDescriptor(::open(part().c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644));
  if (!part_.is_open()) fail_part("make", part());
  std::ifstream in(about());
  const json about = json::parse(in, nullptr, false);
  struct stat status {};
  if (::fstat(part_.get(), &status) != 0) fail_part("read", part());
  const bool is_same = about.is_object() && about.value("checksum", json()) == file_.checksum;
  if (!is_same || status.st_size > file_.num_bytes) {
    start_anew();
    return;
  }
  begin_digest();
  num_bytes_ = add_content(*digest_, part_.get(), part());
  is_from_before_ = num_bytes_ > 0;
}

int64_t PartFile::bytes_here(const std::string& path, const HubFile& file) {
  std::error_code error;
  const auto size = fs::file_size(path + ".part", error);
  return error ? 0 : std::min(static_cast<int64_t>(size), file.num_bytes);
}

void PartFile::begin_digest() { digest_ = digest_of(file_.kind, file_.num_bytes); }

void PartFile::write_about() const {
  const std::string unfinished = about() + ".part";
  std::ofstream out(unfinished, std::ios::trunc);
  out << json{{"checksum", file_.checksum}}.dump() << "\n";
  out.close();
  if (!out || std::rename(unfinished.c_str(), about().c_str()) != 0) fail_part("write", about());
}

void PartFile::append(std::string_view part) {
  digest_->add(part);
  while (!part.empty()) {
    const ssize_t written = ::pwrite(part_.get(), part.data(), part.size(), num_bytes_);
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) fail_part("write", this->part());
    part.remove_prefix(static_cast<size_t>(written));
    num_bytes_ += written;
  }
}

void PartFile::start_anew() {
  if (::ftruncate(part_.get(), 0) != 0) fail_part("write", part());
  num_bytes_ = 0;
  is_from_before_ = false;
  write_about();
  begin_digest();
}

std::string PartFile::checksum() { return digest_->hex(); }

void PartFile::finish() {
  if (::fsync(part_.get()) != 0) fail_part("write", part());
  rename_durably(Disk::real(), part(), path_);
  sync_directory(Disk::real(), fs::path(path_).parent_path().string());
  std::remove(about().c_str());
}

void PartFile::remove() {
  std::remove(part().c_str());
  std::remove(about().c_str());
}

std::string checksum_of_file(const std::string& path, DigestKind kind, int64_t num_bytes) {
  const FileDescriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file.is_open()) fail_part("read", path);
  const auto digest = digest_of(kind, num_bytes);
  add_content(*digest, file.get(), path);
  return digest->hex();
}

}  // namespace zerostep
