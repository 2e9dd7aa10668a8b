#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "models/safetensors.h"
#include "runtime/checkpoint/manifest.h"
#include "runtime/state/state_piece.h"

namespace zerostep {

// A checkpoint on the disk. Any rank of any number of ranks at any stage reads from it what it needs: pieces of a parameter,
// put together from whichever files hold them. Files are mapped; reading is safe from several threads.
class CheckpointReader {
 public:
  // Reads the manifest. InputError naming the file that is missing or damaged.
  explicit CheckpointReader(const std::string& directory);
  const std::string& directory() const { return directory_; }
  const Manifest& manifest() const { return manifest_; }
  // InputError naming it when a file of the manifest is missing, of another size or checksum.
  void verify(size_t file) const;

  // Maps the files and finds what they hold. InputError naming the file when one is no such file, or two hold the same elements.
  void open();
  // Unmaps the files, which otherwise keep their space when they are removed. The manifest stays.
  void close();
  // Whether all `count` elements of an array are there.
  bool contains(const std::string& parameter, int array, int64_t count) const;
  // Arrays that an optimizer kept of a parameter.
  int arrays_of(const std::string& parameter) const;
  // Elements [begin, begin + count), as fp32. InputError when some are missing.
  void read(const std::string& parameter, int array, int64_t begin, int64_t count, float* out) const;
  std::vector<std::string> parameters() const;  // names

 private:
  struct Piece {
    int64_t count;
    size_t file;
    std::string tensor;
  };
  using Pieces = std::map<int64_t, Piece>;  // by first element
  const Pieces* pieces_of(const std::string& parameter, int array) const;

  std::string directory_;
  Manifest manifest_;
  std::vector<SafetensorsFile> files_;
  std::map<std::string, std::map<int, Pieces>> pieces_;
};

}  // namespace zerostep
