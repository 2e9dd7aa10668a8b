#pragma once
#include <cstddef>
#include <string>
#include <vector>

#include "runtime/state/state_piece.h"

namespace zerostep {

// The file of one rank, as it will lie on the disk, in memory: a safetensors header and the pieces of the rank's state end to end. Tensors
// are named "values/PARAMETER@BEGIN" and "state.K/PARAMETER@BEGIN", one-dimensional.
class ShardImage {
 public:
  explicit ShardImage(const std::vector<StatePiece>& pieces);
  ~ShardImage();
  ShardImage(const ShardImage&) = delete;
  ShardImage& operator=(const ShardImage&) = delete;

  // Lets `copy` bring the state into the image.
  void stage(const CopyState& copy);
  const std::byte* data() const { return data_; }  // aligned for direct writes, zeros behind size() up to the next multiple
  size_t size() const { return size_; }
  // Of the file that holds such pieces.
  static int64_t file_bytes(const std::vector<StatePiece>& pieces);

 private:
  std::vector<std::byte*> pieces_;  // where each lies in the image
  std::byte* data_ = nullptr;
  size_t size_ = 0, capacity_ = 0;
};

std::string tensor_name(const StatePiece& piece);
// The other way: whether `name` is one, with its parameter, array and first element.
struct TensorName {
  std::string parameter;
  int array = StatePiece::kValues;
  int64_t begin = 0;
};
bool parse_tensor_name(const std::string& name, TensorName& out);

}  // namespace zerostep
