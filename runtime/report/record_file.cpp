#include "runtime/report/record_file.h"

#include <cstdint>
#include <filesystem>

#include "base/crc32c.h"
#include "base/error.h"
#include "base/mapped_file.h"

namespace zerostep {
namespace {

constexpr size_t kLengthBytes = 8, kCheckBytes = 4;

// Sums are kept rotated and shifted, since the sum of bytes that hold a sum is of little use.
uint32_t masked(uint32_t crc) { return ((crc >> 15) | (crc << 17)) + 0xA282EAD8; }

template <class Number>
void append_little_endian(std::string& out, Number value) {
  for (size_t byte = 0; byte < sizeof(Number); ++byte) out += static_cast<char>(value >> (8 * byte));
}

template <class Number>
Number little_endian(std::string_view bytes) {
  Number value = 0;
  for (size_t byte = 0; byte < sizeof(Number); ++byte) value |= static_cast<Number>(static_cast<uint8_t>(bytes[byte])) << (8 * byte);
  return value;
}

bool is_sound(std::string_view bytes, std::string_view check) { return little_endian<uint32_t>(check) == masked(crc32c(bytes)); }

}  // namespace

void append_record(std::string& out, std::string_view record) {
  const size_t begin = out.size();
  append_little_endian<uint64_t>(out, record.size());
  append_little_endian(out, masked(crc32c(std::string_view(out).substr(begin))));
  out += record;
  append_little_endian(out, masked(crc32c(record)));
}

bool take_record(std::string_view& bytes, std::string_view& record) {
  constexpr size_t kHead = kLengthBytes + kCheckBytes, kFrame = kHead + kCheckBytes;
  if (bytes.size() < kFrame || !is_sound(bytes.substr(0, kLengthBytes), bytes.substr(kLengthBytes))) return false;
  const auto length = little_endian<uint64_t>(bytes);
  if (length > bytes.size() - kFrame) return false;
  const std::string_view content = bytes.substr(kHead, length);
  if (!is_sound(content, bytes.substr(kHead + length))) return false;
  record = content;
  bytes.remove_prefix(kFrame + length);
  return true;
}

void keep_records(const std::string& path, const std::function<bool(std::string_view record)>& keep) {
  size_t num_bytes = 0;
  {
    const MappedFile file(path);
    std::string_view rest = file.text(), record;
    while (take_record(rest, record) && keep(record)) num_bytes = file.num_bytes() - rest.size();
    if (num_bytes == file.num_bytes()) return;
  }
  std::error_code error;
  std::filesystem::resize_file(path, num_bytes, error);
  if (error) fail_run("cannot cut {}: {}", path, error.message());
}

}  // namespace zerostep
