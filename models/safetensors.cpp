#include "models/safetensors.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/from_blob.h>
#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "base/error.h"
#include "base/json_depth.h"

namespace zerostep {

namespace {

constexpr size_t kBufferBytes = 1 << 20;
constexpr uint64_t kMaxHeaderBytes = 100'000'000;  // the format's own limit

const char* file_type(DType type) { return type == DType::F32 ? "F32" : type == DType::BF16 ? "BF16" : type == DType::F16 ? "F16" : "F64"; }

// Bytes an element; 0 for a type that is not known.
size_t size_of_file_type(const std::string& type) {
  static const std::map<std::string, size_t> sizes = {{"F64", 8}, {"I64", 8},  {"U64", 8},     {"C64", 8},     {"F32", 4},    {"I32", 4},
                                                      {"U32", 4}, {"F16", 2},  {"BF16", 2},    {"I16", 2},     {"U16", 2},    {"I8", 1},
                                                      {"U8", 1},  {"BOOL", 1}, {"F8_E4M3", 1}, {"F8_E5M2", 1}, {"F8_E8M0", 1}};
  const auto found = sizes.find(type);
  return found == sizes.end() ? 0 : found->second;
}

// Of a file that is another thing than its name says: what it looks like, and what to do.
std::string likeness(std::string_view text) {
  if (text.starts_with("PK\x03\x04") || text.starts_with("\x80\x02"))
    return ". It begins as a file of torch.save does: save the model as safetensors (save_pretrained does)";
  if (text.starts_with("<")) return ". It begins with '<': is it a web page that came instead of the file? Download it again";
  return "";
}

// A JSON object whose objects name nothing twice; anything else as it is read, or discarded.
nlohmann::json parse_header(const char* text, size_t size, const std::string& path) {
  std::vector<std::set<std::string>> names;  // of the objects that are open
  const auto callback = [&](int depth, nlohmann::json::parse_event_t event, nlohmann::json& parsed) {
    using Event = nlohmann::json::parse_event_t;
    if (depth > static_cast<int>(kDeepestJson)) fail_input("{}: bad header: it nests more than {} deep", path, kDeepestJson);
    if (event == Event::object_start) names.emplace_back();
    if (event == Event::object_end) names.pop_back();
    if (event == Event::key && !names.back().insert(parsed.get<std::string>()).second)
      fail_input("{}: bad header: {} stands twice", path, parsed.get<std::string>());
    return true;
  };
  return nlohmann::json::parse(text, text + size, callback, /*allow_exceptions=*/false);
}

int64_t product(const std::vector<int64_t>& shape) {
  int64_t n = 1;
  for (int64_t d : shape) n *= d;
  return n;
}

// `from` may lie at any address: files need not align their tensors.
void convert(const std::byte* from, at::ScalarType type, int64_t count, float* out) {
  const size_t size = c10::elementSize(type);
  std::vector<std::byte> aligned;
  if (reinterpret_cast<uintptr_t>(from) % size != 0) {
    aligned.assign(from, from + static_cast<size_t>(count) * size);
    from = aligned.data();
  }
  at::from_blob(out, {count}, at::kFloat).copy_(at::from_blob(const_cast<std::byte*>(from), {count}, type));
}

std::string shape_text(const std::vector<int64_t>& shape) { return nlohmann::json(shape).dump(); }

bool is_counts(const nlohmann::json& j) {
  return j.is_array() && std::all_of(j.begin(), j.end(), [](const nlohmann::json& v) { return v.is_number_unsigned(); });
}

// An entry of the header; its offsets are those in the data, which holds `available` bytes.
SafetensorsFile::Tensor tensor_of(const std::string& path, const std::string& name, const nlohmann::json& entry, size_t available) {
  if (!entry.is_object() || !entry.contains("dtype") || !entry["dtype"].is_string() || !entry.contains("shape") ||
      !is_counts(entry["shape"]) || !entry.contains("data_offsets") || !is_counts(entry["data_offsets"]) ||
      entry["data_offsets"].size() != 2) {
    fail_input("{}: bad header: {} lacks dtype, shape or data_offsets, or they are malformed", path, name);
  }
  SafetensorsFile::Tensor tensor;
  tensor.type = entry["dtype"];
  const size_t size = size_of_file_type(tensor.type);
  if (size == 0) fail_input("{}: bad header: {} has type {}, which is not known", path, name, tensor.type);
  const uint64_t begin = entry["data_offsets"][0], end = entry["data_offsets"][1];
  if (begin > end) fail_input("{}: bad header: {} ends at byte {} before it begins at {}", path, name, end, begin);
  if (end > available) fail_input("{}: truncated: {} ends at byte {} of the data, the file holds {}", path, name, end, available);
  tensor.begin = begin;
  tensor.end = end;
  // Shape times size is compared without overflow: what is too large for the bytes is wrong whatever it is.
  constexpr uint64_t kMost = uint64_t{1} << 59;
  uint64_t elements = 1;
  bool fits = true;
  for (const auto& value : entry["shape"]) {
    const uint64_t d = value;
    fits = fits && d <= kMost && (d == 0 || elements <= kMost / d);
    elements = fits ? elements * d : elements;
    tensor.shape.push_back(fits ? static_cast<int64_t>(d) : 0);
  }
  if (!fits || elements * size != end - begin) {
    fail_input("{}: bad header: {} of type {} and shape {} does not fill its {} bytes", path, name, tensor.type, entry["shape"].dump(),
               end - begin);
  }
  return tensor;
}

// The tensors lie end to end and leave nothing over: a byte that is nobody's, or two tensors', means that the header is not the data's.
void check_cover(const std::string& path, const std::map<std::string, SafetensorsFile::Tensor>& tensors, size_t available) {
  std::vector<std::pair<std::pair<size_t, size_t>, const std::string*>> places;
  for (const auto& [name, tensor] : tensors) places.push_back({{tensor.begin, tensor.end}, &name});
  std::sort(places.begin(), places.end());
  size_t covered = 0;
  const std::string* before = nullptr;
  for (const auto& [place, name] : places) {
    if (place.first < covered) fail_input("{}: bad header: {} begins at byte {} inside {}", path, *name, place.first, *before);
    if (place.first > covered)
      fail_input("{}: bad header: bytes {} to {} before {} belong to no tensor", path, covered, place.first, *name);
    covered = place.second;
    before = name;
  }
  if (covered != available) {
    fail_input("{}: bad header: its tensors end at byte {} of the data, the file holds {}", path, covered, available);
  }
}

}  // namespace

SafetensorsWriter::SafetensorsWriter(const std::string& path, std::vector<Tensor> tensors,
                                     const std::map<std::string, std::string>& metadata)
    : file_(path, path + ".partial"), tensors_(std::move(tensors)) {
  nlohmann::ordered_json header;
  if (!metadata.empty()) header["__metadata__"] = metadata;
  int64_t offset = 0;
  for (const Tensor& t : tensors_) {
    const int64_t end = offset + num_bytes(product(t.shape), t.type);
    header[t.name] = {{"dtype", file_type(t.type)}, {"shape", t.shape}, {"data_offsets", {offset, end}}};
    offset = end;
  }
  std::string text = header.empty() ? "{}" : header.dump();
  text.resize(static_cast<size_t>(round_up(static_cast<int64_t>(text.size()), 8)), ' ');  // the data starts aligned
  std::array<unsigned char, 8> size{};
  for (size_t i = 0; i < 8; ++i) size[i] = static_cast<unsigned char>(static_cast<uint64_t>(text.size()) >> (8 * i));
  buffer_.reserve(kBufferBytes);
  write(size.data(), size.size());
  write(text.data(), text.size());
}

void SafetensorsWriter::write(const void* data, size_t size) {
  const auto* bytes = static_cast<const std::byte*>(data);
  while (size > 0) {
    const size_t part = std::min(size, kBufferBytes - buffer_.size());
    buffer_.insert(buffer_.end(), bytes, bytes + part);
    bytes += part;
    size -= part;
    if (buffer_.size() == kBufferBytes) flush();
  }
}

void SafetensorsWriter::flush() {
  size_t done = 0;
  while (done < buffer_.size()) {
    const ssize_t n = ::write(file_.file(), buffer_.data() + done, buffer_.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail_run("cannot write {}: {}", file_.path(), errno == ENOSPC ? "no space left on the device" : std::strerror(errno));
    done += static_cast<size_t>(n);
  }
  buffer_.clear();
}

void SafetensorsWriter::append(const float* values, int64_t count) {
  while (count > 0) {
    while (tensor_ < tensors_.size() && position_ == product(tensors_[tensor_].shape)) {
      ++tensor_;
      position_ = 0;
    }
    if (tensor_ == tensors_.size()) fail_protocol("[safetensors] {}: {} values more than the tensors hold", file_.target(), count);
    const Tensor& tensor = tensors_[tensor_];
    const int64_t part = std::min(count, product(tensor.shape) - position_);
    if (tensor.type == DType::F32) {
      write(values, static_cast<size_t>(part) * 4);
    } else {
      for (int64_t i = 0; i < part; ++i) {
        if (tensor.type == DType::F64) {
          const double wide = values[i];
          write(&wide, 8);
        } else {
          const uint16_t bits = tensor.type == DType::BF16 ? c10::BFloat16(values[i]).x : c10::Half(values[i]).x;
          write(&bits, 2);
        }
      }
    }
    values += part;
    count -= part;
    position_ += part;
  }
}

void SafetensorsWriter::finish() {
  while (tensor_ < tensors_.size() && position_ == product(tensors_[tensor_].shape)) {
    ++tensor_;
    position_ = 0;
  }
  if (tensor_ != tensors_.size()) {
    fail_protocol("[safetensors] {}: finished at value {} of {} {}", file_.target(), position_, tensors_[tensor_].name,
                  shape_text(tensors_[tensor_].shape));
  }
  flush();
  file_.publish();
}

int64_t SafetensorsFile::Tensor::num_elements() const { return product(shape); }
bool SafetensorsFile::Tensor::is_floating() const { return type == "F32" || type == "BF16" || type == "F16" || type == "F64"; }

SafetensorsFile::SafetensorsFile(const std::string& path) : path_(path), file_(path) {
  const auto bytes = file_.bytes();
  if (bytes.size() < 8)
    fail_input("{}: {} bytes are too few for a safetensors file, which starts with 8 bytes of header size", path, bytes.size());
  uint64_t header_size = 0;
  for (size_t i = 0; i < 8; ++i) header_size |= static_cast<uint64_t>(bytes[i]) << (8 * i);
  if (header_size > kMaxHeaderBytes)
    fail_input("{}: not a safetensors file, or damaged: its header claims {} bytes{}", path, header_size, likeness(file_.text()));
  if (header_size > bytes.size() - 8) {
    fail_input("{}: truncated: its header claims {} bytes, the file holds {} after the first 8", path, header_size, bytes.size() - 8);
  }
  const size_t data = 8 + header_size;
  const auto* text = reinterpret_cast<const char*>(bytes.data()) + 8;
  const nlohmann::json header = parse_header(text, header_size, path);
  if (!header.is_object()) fail_input("{}: not a safetensors file, or damaged: its header is not a JSON object", path);
  for (const auto& [name, entry] : header.items()) {
    if (name != "__metadata__") {
      tensors_.emplace(name, tensor_of(path, name, entry, bytes.size() - data));
      continue;
    }
    if (!entry.is_object()) fail_input("{}: bad header: __metadata__ is not an object", path);
    for (const auto& [key, value] : entry.items()) {
      if (!value.is_string()) fail_input("{}: bad header: __metadata__.{} is {}; expected text", path, key, value.dump());
      metadata_[key] = value.get<std::string>();
    }
  }
  check_cover(path, tensors_, bytes.size() - data);
  for (auto& [name, tensor] : tensors_) {
    tensor.begin += data;
    tensor.end += data;
  }
}

const SafetensorsFile::Tensor& SafetensorsFile::tensor(const std::string& name) const {
  const auto found = tensors_.find(name);
  if (found == tensors_.end()) fail_input("{}: there is no tensor {} among its {}", path_, name, tensors_.size());
  return found->second;
}

void SafetensorsFile::read(const std::string& name, int64_t begin, int64_t count, float* out) const {
  const Tensor& t = tensor(name);
  if (begin < 0 || count < 0 || begin > t.num_elements() - count) {
    fail_protocol("[safetensors] {}: {} has shape {}, asked for elements [{}, {})", path_, name, shape_text(t.shape), begin, begin + count);
  }
  if (!t.is_floating()) fail_input("{}: {} has type {}; expected F32, BF16, F16 or F64", path_, name, t.type);
  // Mapped run by run, while what a run brings into the caches is still there.
  constexpr int64_t kRun = 1 << 18;
  const size_t size = size_of_file_type(t.type);
  for (int64_t at = 0; at < count; at += kRun) {
    const int64_t n = std::min(kRun, count - at);
    const size_t place = t.begin + static_cast<size_t>(begin + at) * size;
    file_.populate(place, static_cast<size_t>(n) * size);
    const std::byte* from = file_.bytes().data() + place;
    if (t.type == "F32") {
      std::memcpy(out + at, from, static_cast<size_t>(n) * 4);
    } else {
      convert(from, t.type == "BF16" ? at::kBFloat16 : t.type == "F16" ? at::kHalf : at::kDouble, n, out + at);
    }
  }
}

}  // namespace zerostep
