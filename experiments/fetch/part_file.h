#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "base/file_descriptor.h"
#include "experiments/fetch/digest.h"
#include "experiments/fetch/hub.h"

namespace zerostep {

// A file on its way: what has come of it lies in `<path>.part`, and `<path>.part.json` has the checksum of the content that it is of. Both
// outlive the process; the file has its own name only when all of it is there, checked and on the disk.
class PartFile {
 public:
  // How much of a file is here on its way; 0: nothing.
  static int64_t bytes_here(const std::string& path, const HubFile& file);
  // Whether a file of this name may be one of those beside a file on its way.
  static bool may_be_beside(const std::string& path) { return path.ends_with(".part") || path.ends_with(".part.json"); }

  // Goes on from what is there, where that is of the same content; the folder must be there. RunError naming the file and the reason.
  PartFile(std::string path, const HubFile& file);

  int64_t num_bytes() const { return num_bytes_; }
  bool is_all() const { return num_bytes_ == file_.num_bytes; }
  // What the process found, and has not thrown away.
  bool is_from_before() const { return is_from_before_; }
  void append(std::string_view part);
  void start_anew();
  // Of what is there; it can be asked once.
  std::string checksum();
  // Puts it on the disk and gives it its name.
  void finish();
  void remove();

 private:
  void begin_digest();
  void write_about() const;
  std::string part() const { return path_ + ".part"; }
  std::string about() const { return path_ + ".part.json"; }

  std::string path_;
  HubFile file_;
  FileDescriptor part_;
  std::unique_ptr<Digest> digest_;
  int64_t num_bytes_ = 0;
  bool is_from_before_ = false;
};

// Of a whole file, as HubFile::checksum. RunError where it cannot be read.
std::string checksum_of_file(const std::string& path, DigestKind kind, int64_t num_bytes);

}  // namespace zerostep
