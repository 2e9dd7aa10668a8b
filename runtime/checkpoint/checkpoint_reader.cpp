#include "runtime/checkpoint/checkpoint_reader.h"

#include <algorithm>
#include <filesystem>

#include "base/error.h"
#include "base/mapped_file.h"
#include "runtime/checkpoint/shard_image.h"

namespace zerostep {
namespace fs = std::filesystem;

CheckpointReader::CheckpointReader(const std::string& directory) : directory_(directory), manifest_(read_manifest(directory)) {}

void CheckpointReader::verify(size_t file) const {
  const Manifest::File& expected = manifest_.files.at(file);
  const std::string path = (fs::path(directory_) / expected.name).string();
  std::error_code error;
  if (fs::status(path, error).type() == fs::file_type::not_found) fail_input("{}: the checkpoint is damaged: the file is missing", path);
  const MappedFile found(path);
  if (static_cast<int64_t>(found.num_bytes()) != expected.bytes)
    fail_input("{}: the checkpoint is damaged: the file has {} bytes, the manifest says {}", path, found.num_bytes(), expected.bytes);
  if (checksum_of(found.bytes().data(), found.num_bytes()) != expected.checksum)
    fail_input("{}: the checkpoint is damaged: the file's checksum is not the manifest's", path);
}

void CheckpointReader::open() {
  for (const Manifest::File& file : manifest_.files) {
    const std::string path = (fs::path(directory_) / file.name).string();
    files_.emplace_back(path);
    for (const auto& [name, tensor] : files_.back().tensors()) {
      TensorName parsed;
      if (!parse_tensor_name(name, parsed)) fail_input("{}: holds the tensor {}, which no checkpoint has", path, name);
      Pieces& pieces = pieces_[parsed.parameter][parsed.array];
      const int64_t count = tensor.num_elements();
      const auto next = pieces.lower_bound(parsed.begin);
      const bool overlaps = (next != pieces.end() && next->first < parsed.begin + count) ||
                            (next != pieces.begin() && std::prev(next)->first + std::prev(next)->second.count > parsed.begin);
      if (overlaps) fail_input("{}: the tensor {} holds elements that another one holds too", path, name);
      pieces.emplace(parsed.begin, Piece{count, files_.size() - 1, name});
    }
  }
}

void CheckpointReader::close() {
  pieces_.clear();
  files_.clear();
}

const CheckpointReader::Pieces* CheckpointReader::pieces_of(const std::string& parameter, int array) const {
  const auto parameter_entry = pieces_.find(parameter);
  if (parameter_entry == pieces_.end()) return nullptr;
  const auto array_entry = parameter_entry->second.find(array);
  return array_entry == parameter_entry->second.end() ? nullptr : &array_entry->second;
}

bool CheckpointReader::contains(const std::string& parameter, int array, int64_t count) const {
  const Pieces* pieces = pieces_of(parameter, array);
  int64_t end = 0;
  if (pieces == nullptr) return count == 0;
  for (const auto& [begin, piece] : *pieces) {
    if (begin != end) return false;
    end += piece.count;
  }
  return end == count;
}

int CheckpointReader::arrays_of(const std::string& parameter) const {
  const auto found = pieces_.find(parameter);
  if (found == pieces_.end()) return 0;
  return static_cast<int>(found->second.size() - found->second.count(StatePiece::kValues));
}

std::vector<std::string> CheckpointReader::parameters() const {
  std::vector<std::string> names;
  for (const auto& [name, arrays] : pieces_) names.push_back(name);
  return names;
}

void CheckpointReader::read(const std::string& parameter, int array, int64_t begin, int64_t count, float* out) const {
  const Pieces* pieces = pieces_of(parameter, array);
  const int64_t end = begin + count;
  for (int64_t at = begin; at < end;) {
    const Piece* piece = nullptr;
    int64_t first = 0;
    if (pieces != nullptr) {
      auto next = pieces->upper_bound(at);
      if (next != pieces->begin() && (--next)->first + next->second.count > at) {
        piece = &next->second;
        first = next->first;
      }
    }
    if (piece == nullptr)
      fail_input("{}: the checkpoint does not hold element {} of {}{}", directory_, at,
                 array == StatePiece::kValues ? "" : "the optimizer's state of ", parameter);
    const int64_t n = std::min(end, first + piece->count) - at;
    files_[piece->file].read(piece->tensor, at - first, n, out + (at - begin));
    at += n;
  }
}

}  // namespace zerostep
