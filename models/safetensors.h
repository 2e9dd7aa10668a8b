#pragma once
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "base/dtype.h"
#include "base/mapped_file.h"
#include "base/unfinished_file.h"

namespace zerostep {

// The safetensors format: 8 bytes header size (little endian), a JSON header, the tensors' bytes end to end.

// Writes tensors one after another; nothing but a buffer is held. The file appears under its name when it is complete, and one process at a
// time writes it (UnfinishedFile).
class SafetensorsWriter {
 public:
  struct Tensor {
    std::string name;
    DType type;
    std::vector<int64_t> shape;
  };
  // `metadata` becomes __metadata__. InputError while another process writes the file, RunError when it cannot be made or written.
  SafetensorsWriter(const std::string& path, std::vector<Tensor> tensors,
                    const std::map<std::string, std::string>& metadata = {{"format", "pt"}});

  // The next `count` values in the order of the tensors, row-major; rounded to nearest even where a tensor's type is narrower.
  void append(const float* values, int64_t count);
  // ProtocolError when values are missing.
  void finish();

 private:
  void write(const void* data, size_t size);
  void flush();

  UnfinishedFile file_;
  std::vector<Tensor> tensors_;
  size_t tensor_ = 0;     // being written
  int64_t position_ = 0;  // in it, elements
  std::vector<std::byte> buffer_;
};

// A mapped file. InputError, naming path and fault, when it is truncated or malformed: names that stand twice, types that are not known,
// tensors that overlap, leave bytes over or do not fill their own.
class SafetensorsFile {
 public:
  struct Tensor {
    std::string type;  // the file's: "F32", "BF16", "I64"...
    std::vector<int64_t> shape;
    size_t begin = 0, end = 0;  // bytes in the file
    int64_t num_elements() const;
    bool is_floating() const;  // one that read() converts
  };
  explicit SafetensorsFile(const std::string& path);

  const std::map<std::string, Tensor>& tensors() const { return tensors_; }
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  bool contains(const std::string& name) const { return tensors_.contains(name); }
  // InputError when there is no such tensor.
  const Tensor& tensor(const std::string& name) const;
  // Elements [begin, begin + count) of a tensor of a floating type, as fp32.
  void read(const std::string& name, int64_t begin, int64_t count, float* out) const;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
  MappedFile file_;
  std::map<std::string, Tensor> tensors_;
  std::map<std::string, std::string> metadata_;
};

}  // namespace zerostep
