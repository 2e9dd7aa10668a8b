#include <gtest/gtest.h>

#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <random>

#include "base/error.h"
#include "models/safetensors.h"
#include "tests/support/scratch_folder.h"

// Thousands of files that are a few bytes away from a good one: each is refused with a message that names it, or read as its bytes say.
namespace zerostep {
namespace {

std::string good_file() {
  const std::string header =
      R"({"__metadata__":{"format":"pt"},"a.weight":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},)"
      R"("b":{"dtype":"BF16","shape":[4],"data_offsets":[24,32]},"c":{"dtype":"F16","shape":[2,1],"data_offsets":[32,36]},)"
      R"("n":{"dtype":"I64","shape":[1],"data_offsets":[36,44]},"none":{"dtype":"F32","shape":[0],"data_offsets":[44,44]}})";
  std::string file(8, '\0');
  for (size_t i = 0; i < 8; ++i) file[i] = static_cast<char>(header.size() >> (8 * i));
  file += header;
  for (int i = 0; i < 44; ++i) file += static_cast<char>(37 * i + 11);
  return file;
}

class Mutator {
 public:
  explicit Mutator(uint64_t seed) : random_(seed) {}

  // Bytes of the last `size` alone.
  std::string mutate_data(std::string file, size_t size) {
    for (uint64_t i = below(9); i < 9; ++i) file[file.size() - 1 - below(size)] = static_cast<char>(below(256));
    return file;
  }
  std::string mutate(std::string file) {
    const int changes = 1 + static_cast<int>(below(3));
    for (int i = 0; i < changes; ++i) change(file);
    return file;
  }

 private:
  uint64_t below(uint64_t n) { return random_() % n; }
  size_t place(const std::string& file) { return file.empty() ? 0 : below(file.size()); }
  void change(std::string& file) {
    static const std::vector<std::string> words = {"0",
                                                   "-1",
                                                   "1",
                                                   "8",
                                                   "24",
                                                   "44",
                                                   "1e3",
                                                   "4294967296",
                                                   "18446744073709551615",
                                                   "99999999999999999999",
                                                   "null",
                                                   "true",
                                                   "[]",
                                                   "{}",
                                                   "[",
                                                   "}",
                                                   "\"",
                                                   ",",
                                                   ":",
                                                   "\"F32\"",
                                                   "\"F64\"",
                                                   "\"I64\"",
                                                   "\"a.weight\"",
                                                   "\\u0000",
                                                   "\xff",
                                                   "\"shape\"",
                                                   "[0,24]",
                                                   "[24,32]"};
    switch (below(8)) {
      case 0:  // a bit
        if (!file.empty()) file[place(file)] ^= static_cast<char>(1 << below(8));
        return;
      case 1:  // the size of the header
        if (file.size() >= 8) file[below(8)] = static_cast<char>(below(256));
        return;
      case 2:
        file.resize(place(file));
        return;
      case 3:
        file.insert(place(file), words[below(words.size())]);
        return;
      case 4: {  // one value of the header for another
        const size_t at = file.find_first_of("0123456789\"[{", place(file));
        if (at != std::string::npos) file.replace(at, 1 + below(4), words[below(words.size())]);
        return;
      }
      case 5:
        file.erase(place(file), 1 + below(9));
        return;
      case 6: {  // a piece of it again
        const std::string piece = file.substr(place(file), 1 + below(60));
        file.insert(place(file), piece);
        return;
      }
      default:
        file += std::string(1 + below(20), static_cast<char>(below(256)));
        return;
    }
  }
  std::mt19937_64 random_;
};

// A header that fits its own size again, so that what is inside it is looked at.
std::string resized(std::string file) {
  const size_t end = file.rfind('}');
  if (file.size() < 9 || end == std::string::npos || end < 8) return file;
  for (size_t i = 0; i < 8; ++i) file[i] = static_cast<char>((end + 1 - 8) >> (8 * i));
  return file;
}

float value_of(const std::string& bytes, size_t at, const std::string& type) {
  if (type == "F64") {
    double wide = 0;
    std::memcpy(&wide, bytes.data() + at, 8);
    return static_cast<float>(wide);
  }
  uint32_t bits = 0;
  std::memcpy(&bits, bytes.data() + at, type == "F32" ? 4 : 2);
  if (type == "BF16") bits <<= 16;
  if (type == "F16") {
    const int exponent = static_cast<int>(bits >> 10 & 31);
    const auto fraction = static_cast<float>(bits & 1023);
    const float sign = bits >> 15 != 0 ? -1.0f : 1.0f;
    if (exponent == 31) return sign * (fraction == 0 ? INFINITY : NAN);
    return sign * (exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(1024 + fraction, exponent - 25));
  }
  float value = 0;
  std::memcpy(&value, &bits, 4);
  return value;
}

// What the file says is what is read: the header's own offsets, taken from it once more.
void expect_read_correctly(const SafetensorsFile& file, const std::string& bytes) {
  uint64_t size = 0;
  std::memcpy(&size, bytes.data(), 8);
  const auto header = nlohmann::json::parse(bytes.substr(8, size));
  for (const auto& [name, tensor] : file.tensors()) {
    const auto& entry = header.at(name);
    ASSERT_EQ(entry.at("shape").get<std::vector<int64_t>>(), tensor.shape);
    const size_t begin = 8 + size + entry.at("data_offsets").at(0).get<size_t>();
    const int64_t count = tensor.num_elements();
    std::vector<float> values(static_cast<size_t>(count));
    if (!tensor.is_floating()) {
      EXPECT_THROW(file.read(name, 0, count, values.data()), InputError);
      continue;
    }
    file.read(name, 0, count, values.data());
    const size_t width = tensor.type == "F64" ? 8 : tensor.type == "F32" ? 4 : 2;
    for (size_t i = 0; i < values.size(); ++i) {
      const float expected = value_of(bytes, begin + width * i, tensor.type);
      if (std::isnan(expected)) {
        EXPECT_TRUE(std::isnan(values[i])) << name << " " << i;
      } else {
        EXPECT_EQ(values[i], expected) << name << " " << i;
      }
    }
  }
}

TEST(SafetensorsFuzz, EveryMutationIsRefusedByNameOrReadAsItSays) {
  const ScratchFolder folder;
  const std::string path = folder.path("file.safetensors"), good = good_file();
  Mutator mutator(20240519);
  int refused = 0, read = 0;
  for (int i = 0; i < 6000; ++i) {
    std::string bytes = i == 0 ? good : i % 6 == 0 ? mutator.mutate_data(good, 44) : mutator.mutate(good);
    if (i % 2 == 1) bytes = resized(bytes);
    std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
    try {
      const SafetensorsFile file(path);
      expect_read_correctly(file, bytes);
      ++read;
    } catch (const InputError& error) {
      EXPECT_NE(std::string(error.what()).find(path), std::string::npos) << error.what();
      ++refused;
    }
    ASSERT_FALSE(testing::Test::HasFailure()) << "mutation " << i << ": " << bytes;
  }
  // Both happen often: the mutations reach behind the first check.
  EXPECT_GT(refused, 4000);
  EXPECT_GT(read, 1000);
}

}  // namespace
}  // namespace zerostep
