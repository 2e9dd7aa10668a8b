#pragma once
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

// Reads TensorBoard's event files by their published format alone: nothing here is shared with what writes them.
namespace zerostep::testing {

// The fields of a message on the wire by number: of each the numbers (varints, or the bits of fixed ones) or the bytes, in order.
struct WireMessage {
  std::map<int, std::vector<uint64_t>> numbers;
  std::map<int, std::vector<std::string>> bytes;

  explicit WireMessage(std::string_view text) {
    while (!text.empty()) {
      const uint64_t key = varint(text);
      const int field = static_cast<int>(key >> 3);
      switch (key & 7) {
        case 0:
          numbers[field].push_back(varint(text));
          break;
        case 1:
          numbers[field].push_back(fixed(text, 8));
          break;
        case 2: {
          const uint64_t length = varint(text);
          if (length > text.size()) throw std::runtime_error("a field is longer than its message");
          bytes[field].emplace_back(text.substr(0, length));
          text.remove_prefix(length);
          break;
        }
        case 5:
          numbers[field].push_back(fixed(text, 4));
          break;
        default:
          throw std::runtime_error("an unknown type of field");
      }
    }
  }
  uint64_t number(int field) const { return numbers.contains(field) ? numbers.at(field).back() : 0; }
  std::string text(int field) const { return bytes.contains(field) ? bytes.at(field).back() : ""; }
  double real(int field) const {
    const uint64_t bits = number(field);
    double value = 0;
    std::memcpy(&value, &bits, sizeof value);
    return value;
  }

 private:
  static uint64_t varint(std::string_view& text) {
    uint64_t value = 0;
    for (int shift = 0; !text.empty(); shift += 7) {
      const auto byte = static_cast<uint8_t>(text.front());
      text.remove_prefix(1);
      value |= static_cast<uint64_t>(byte & 0x7f) << shift;
      if (byte < 0x80) return value;
    }
    throw std::runtime_error("a number is cut short");
  }
  static uint64_t fixed(std::string_view& text, size_t size) {
    if (size > text.size()) throw std::runtime_error("a number is cut short");
    uint64_t value = 0;
    std::memcpy(&value, text.data(), size);
    text.remove_prefix(size);
    return value;
  }
};

// The masked CRC-32C of TFRecord, bit by bit.
inline uint32_t masked_check(std::string_view bytes) {
  uint32_t crc = ~0u;
  for (const char c : bytes) {
    crc ^= static_cast<uint8_t>(c);
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ (0x82f63b78u & (0u - (crc & 1)));
  }
  crc = ~crc;
  return ((crc >> 15) | (crc << 17)) + 0xa282ead8u;
}

// Every record of a file; a failure where one is not whole.
inline std::vector<std::string> records_of(const std::string& path) {
  std::stringstream content;
  content << std::ifstream(path, std::ios::binary).rdbuf();
  const std::string text = content.str();
  std::vector<std::string> out;
  for (size_t at = 0; at < text.size();) {
    uint64_t length = 0;
    uint32_t of_length = 0, of_record = 0;
    if (text.size() - at < 16) {
      ADD_FAILURE() << path << ": a record is cut short";
      break;
    }
    std::memcpy(&length, text.data() + at, 8);
    std::memcpy(&of_length, text.data() + at + 8, 4);
    if (of_length != masked_check({text.data() + at, 8}) || length > text.size() - at - 16) {
      ADD_FAILURE() << path << ": a record's length is wrong or the file cut short";
      break;
    }
    out.push_back(text.substr(at + 12, length));
    std::memcpy(&of_record, text.data() + at + 12 + length, 4);
    EXPECT_EQ(of_record, masked_check(out.back())) << path;
    at += 16 + length;
  }
  return out;
}

// What the event files of a folder hold together, read in the order of their names, as TensorBoard does.
struct Events {
  using Series = std::vector<std::pair<int64_t, float>>;    // steps and values
  std::map<std::string, Series> series;                     // by tag
  std::map<std::string, std::vector<std::string>> plug_in;  // content for the hparams plug-in, by tag
  std::vector<std::string> versions, files;

  // The first session's hyper-parameters: the value's number, text, or "true" and "false", as a text.
  std::map<std::string, std::string> hyper_parameters() const {
    std::map<std::string, std::string> out;
    const WireMessage content(plug_in.at("_hparams_/session_start_info").at(0)), session(content.text(3));
    for (const std::string& bytes : session.bytes.at(1)) {
      const WireMessage entry(bytes), value(entry.text(2));
      if (value.bytes.contains(3)) out[entry.text(1)] = value.text(3);
      if (value.numbers.contains(4)) out[entry.text(1)] = value.number(4) != 0 ? "true" : "false";
      if (value.numbers.contains(2)) {
        std::ostringstream number;
        number << value.real(2);
        out[entry.text(1)] = number.str();
      }
    }
    return out;
  }
};

inline Events events_of(const std::string& folder) {
  Events out;
  if (std::filesystem::exists(folder))
    for (const auto& entry : std::filesystem::directory_iterator(folder))
      if (entry.path().filename().string().starts_with("events.out.tfevents.")) out.files.push_back(entry.path().string());
  std::sort(out.files.begin(), out.files.end());
  for (const std::string& file : out.files)
    for (const std::string& record : records_of(file)) {
      const WireMessage event(record);
      EXPECT_GT(event.real(1), 1.7e9) << "seconds since 1970";
      if (event.bytes.contains(3)) out.versions.push_back(event.text(3));
      if (!event.bytes.contains(5)) continue;
      const WireMessage summary(event.text(5));
      for (const std::string& bytes : summary.bytes.at(1)) {
        const WireMessage value(bytes);
        if (value.numbers.contains(2)) {
          const auto bits = static_cast<uint32_t>(value.number(2));
          float number = 0;
          std::memcpy(&number, &bits, sizeof number);
          out.series[value.text(1)].emplace_back(static_cast<int64_t>(event.number(2)), number);
        } else {
          const WireMessage plug_in(WireMessage(value.text(9)).text(1));
          EXPECT_EQ(plug_in.text(1), "hparams");
          out.plug_in[value.text(1)].push_back(plug_in.text(2));
        }
      }
    }
  return out;
}

}  // namespace zerostep::testing
