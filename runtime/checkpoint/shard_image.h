#pragma once
#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "runtime/state/state_slice.h"

namespace zerostep {

// The file of one rank, as it will lie on the disk, in memory: a safetensors header and the slices of the rank's state end to end. Tensors
// are named "values/PARAMETER@BEGIN" and "state.K/PARAMETER@BEGIN", one-dimensional.
class ShardImage {
 public:
  explicit ShardImage(const std::vector<StateSlice>& slices);
  ~ShardImage();
  ShardImage(const ShardImage&) = delete;
  ShardImage& operator=(const ShardImage&) = delete;

  // Lets `copy` bring the state into the image.
  void stage(const CopyState& copy);
  const std::byte* data() const { return data_; }  // aligned for direct writes, zeros behind size() up to the next multiple
  size_t size() const { return size_; }
  // Of the file that holds such slices.
  static int64_t file_bytes(const std::vector<StateSlice>& slices);

 private:
  std::vector<std::byte*> slices_;  // where each lies in the image
  std::byte* data_ = nullptr;
  size_t size_ = 0, capacity_ = 0;
};

std::string tensor_name(const StateSlice& slice);
// The other way: whether `name` is one, with its parameter, array and first element.
struct TensorName {
  std::string parameter;
  int array = StateSlice::kValues;
  int64_t begin = 0;
};
bool parse_tensor_name(const std::string& name, TensorName& out);

}  // namespace zerostep
