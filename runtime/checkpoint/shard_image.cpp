#include "runtime/checkpoint/shard_image.h"

#include <fmt/format.h>
#include <sys/mman.h>

#include <cerrno>
#include <charconv>
#include <cstring>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "offload/disk.h"

namespace zerostep {
namespace {

std::string header_of(const std::vector<StatePiece>& pieces) {
  std::string text = R"({"__metadata__":{"format":"zerostep checkpoint"})";
  int64_t offset = 0;
  for (const StatePiece& s : pieces) {
    const int64_t end = offset + num_bytes(s.count, s.type);
    const char* type = s.type == DType::F32 ? "F32" : s.type == DType::BF16 ? "BF16" : "F16";
    text += fmt::format(R"(,{}:{{"dtype":"{}","shape":[{}],"data_offsets":[{},{}]}})", nlohmann::json(tensor_name(s)).dump(), type, s.count,
                        offset, end);
    offset = end;
  }
  text += '}';
  // The tensors begin where direct writes may.
  text.resize(static_cast<size_t>(round_up(static_cast<int64_t>(text.size()) + 8, static_cast<int64_t>(kDirectAlignment))) - 8, ' ');
  return text;
}

}  // namespace

std::string tensor_name(const StatePiece& piece) {
  return piece.array == StatePiece::kValues ? fmt::format("values/{}@{}", piece.parameter->name, piece.begin)
                                            : fmt::format("state.{}/{}@{}", piece.array, piece.parameter->name, piece.begin);
}

bool parse_tensor_name(const std::string& name, TensorName& out) {
  const size_t slash = name.find('/'), at = name.rfind('@');
  if (slash == std::string::npos || at == std::string::npos || at < slash) return false;
  const auto number = [](std::string_view text, auto& value) {
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    return error == std::errc() && end == text.data() + text.size() && !text.empty() && value >= 0;
  };
  const std::string_view kind = std::string_view(name).substr(0, slash);
  out.array = StatePiece::kValues;
  if (kind != "values" && !(kind.starts_with("state.") && number(kind.substr(6), out.array))) return false;
  out.parameter = name.substr(slash + 1, at - slash - 1);
  return number(std::string_view(name).substr(at + 1), out.begin);
}

int64_t ShardImage::file_bytes(const std::vector<StatePiece>& pieces) {
  auto bytes = static_cast<int64_t>(8 + header_of(pieces).size());
  for (const StatePiece& s : pieces) bytes += num_bytes(s.count, s.type);
  return bytes;
}

ShardImage::ShardImage(const std::vector<StatePiece>& pieces) {
  const std::string header = header_of(pieces);
  const size_t first = 8 + header.size();
  size_ = first;
  for (const StatePiece& s : pieces) size_ += static_cast<size_t>(num_bytes(s.count, s.type));
  capacity_ = (size_ + kDirectAlignment - 1) / kDirectAlignment * kDirectAlignment;
  void* memory = ::mmap(nullptr, capacity_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
  if (memory == MAP_FAILED)
    fail_run("no memory for the staging of checkpoints, {} bytes: {}. run.checkpoint_interval 0 writes none", capacity_,
             std::strerror(errno));
  data_ = static_cast<std::byte*>(memory);
  for (size_t i = 0; i < 8; ++i) data_[i] = static_cast<std::byte>(static_cast<uint64_t>(header.size()) >> (8 * i));
  std::memcpy(data_ + 8, header.data(), header.size());
  std::byte* at = data_ + first;
  for (const StatePiece& s : pieces) {
    pieces_.push_back(at);
    at += num_bytes(s.count, s.type);
  }
}

ShardImage::~ShardImage() { ::munmap(data_, capacity_); }

void ShardImage::stage(const CopyState& copy) { copy(pieces_); }

}  // namespace zerostep
