#include "models/safetensors.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "base/error.h"
#include "tests/support/scratch_folder.h"

namespace zerostep {
namespace {

// Written by the safetensors package for Python: a.weight F32 [2, 3] = -2.5..2.5, b F16 [3] = 1, -2, 0.5, n I64 [2] = 7, -8, empty F32 [0,
// 4].
const std::string kForeignHeader =
    R"({"__metadata__":{"format":"np"},"n":{"dtype":"I64","shape":[2],"data_offsets":[0,16]},"a.weight":{"dtype":"F32","shape":[2,3],"data_offsets":[16,40]},"empty":{"dtype":"F32","shape":[0,4],"data_offsets":[40,40]},"b":{"dtype":"F16","shape":[3],"data_offsets":[40,46]}}      )";
const std::string kForeignData(
    "\x07\0\0\0\0\0\0\0\xf8\xff\xff\xff\xff\xff\xff\xff\0\0\x20\xc0\0\0\xc0\xbf\0\0\0\xbf\0\0\0\x3f\0\0\xc0\x3f\0\0\x20\x40\0\x3c\0\xc0\0"
    "\x38",
    46);

std::string with_size(const std::string& header, const std::string& data) {
  std::string size(8, '\0');
  for (int i = 0; i < 8; ++i) size[i] = static_cast<char>(header.size() >> (8 * i));
  return size + header + data;
}

class Safetensors : public testing::Test {
 protected:
  std::string write(const std::string& bytes) {
    const std::string path = folder_.path("file.safetensors");
    std::ofstream(path, std::ios::binary) << bytes;
    return path;
  }
  // The message with which a file of these bytes is refused.
  std::string refusal(const std::string& bytes) {
    const std::string path = write(bytes);
    try {
      const SafetensorsFile file(path);
    } catch (const InputError& error) {
      EXPECT_NE(std::string(error.what()).find(path), std::string::npos) << error.what();
      return error.what();
    }
    return "";
  }
  ScratchFolder folder_;
};

TEST_F(Safetensors, ReadsAFileOfAnotherTool) {
  const SafetensorsFile file(write(with_size(kForeignHeader, kForeignData)));
  EXPECT_EQ(file.tensors().size(), 4);
  EXPECT_EQ(file.metadata().at("format"), "np");
  EXPECT_EQ(file.tensor("a.weight").shape, (std::vector<int64_t>{2, 3}));
  EXPECT_EQ(file.tensor("empty").num_elements(), 0);
  std::vector<float> a(4), b(3);
  file.read("a.weight", 1, 4, a.data());
  EXPECT_EQ(a, (std::vector<float>{-1.5, -0.5, 0.5, 1.5}));
  file.read("b", 0, 3, b.data());
  EXPECT_EQ(b, (std::vector<float>{1, -2, 0.5}));
  EXPECT_THROW(file.read("n", 0, 2, a.data()), InputError);  // whole numbers are no weights
  EXPECT_THROW(file.read("a.weight", 4, 3, a.data()), ProtocolError);
  EXPECT_THROW(file.tensor("missing"), InputError);
}

TEST_F(Safetensors, WritesTheBytesOfTheFormat) {
  const std::string path = folder_.path("out.safetensors");
  SafetensorsWriter writer(
      path,
      {{"w", DType::F32, {2, 1}}, {"none", DType::F32, {0}}, {"h", DType::BF16, {3}}, {"f", DType::F16, {1}}, {"d", DType::F64, {1}}});
  const std::vector<float> values = {1, -2, 1.00390625f /* ties to even: 1 */, 1.01171875f /* ties to even: 1.015625 */, NAN, 0.5f, 3};
  writer.append(values.data(), 3);
  EXPECT_FALSE(std::filesystem::exists(path));
  writer.append(values.data() + 3, 4);
  writer.finish();
  std::stringstream content;
  content << std::ifstream(path, std::ios::binary).rdbuf();
  std::string header =
      R"({"__metadata__":{"format":"pt"},"w":{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]},"none":{"dtype":"F32","shape":[0],"data_offsets":[8,8]},"h":{"dtype":"BF16","shape":[3],"data_offsets":[8,14]},"f":{"dtype":"F16","shape":[1],"data_offsets":[14,16]},"d":{"dtype":"F64","shape":[1],"data_offsets":[16,24]}})";
  header.resize((header.size() + 7) / 8 * 8, ' ');
  const std::string data("\0\0\x80\x3f\0\0\0\xc0\x80\x3f\x82\x3f\xc0\x7f\0\x38\0\0\0\0\0\0\x08\x40", 24);
  EXPECT_EQ(content.str(), with_size(header, data));
  EXPECT_FALSE(std::filesystem::exists(path + ".partial"));
}

TEST_F(Safetensors, AnIncompleteFileNeverAppears) {
  const std::string path = folder_.path("out.safetensors");
  const float value = 1;
  {
    SafetensorsWriter writer(path, {{"w", DType::F32, {2}}});
    writer.append(&value, 1);
    EXPECT_THROW(writer.finish(), ProtocolError);
  }
  EXPECT_TRUE(std::filesystem::is_empty(folder_.path("")));
  SafetensorsWriter full(path, {{"w", DType::F32, {1}}});
  full.append(&value, 1);
  EXPECT_THROW(full.append(&value, 1), ProtocolError);
}

TEST_F(Safetensors, AFullDeviceIsNamed) { EXPECT_THROW(SafetensorsWriter(folder_.path("no/such/folder"), {}), RunError); }

TEST_F(Safetensors, EveryTruncationIsRefusedAndNamed) {
  const std::string whole = with_size(kForeignHeader, kForeignData);
  for (size_t length = 0; length < whole.size(); ++length) {
    EXPECT_NE(refusal(whole.substr(0, length)), "") << length;
  }
  EXPECT_NE(refusal(whole.substr(0, whole.size() - 1)).find("truncated: b ends"), std::string::npos);
  EXPECT_NE(refusal(whole.substr(0, 100)).find("truncated: its header"), std::string::npos);
}

TEST_F(Safetensors, MalformedHeadersAreRefused) {
  const auto header = [&](const std::string& h) { return refusal(with_size(h, std::string(16, '\0'))); };
  EXPECT_EQ(header(R"({"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}})"), "");  // the form that is right
  EXPECT_NE(header("[]").find("not a JSON object"), std::string::npos);
  EXPECT_NE(header("{\"a\":\xff}").find("not a JSON object"), std::string::npos);
  EXPECT_NE(header(std::string(100000, '[')).find("nests more than 512 deep"), std::string::npos);
  EXPECT_NE(header("{\"a\":" + std::string(100000, '[') + std::string(100000, ']') + "}").find("nests more than 512 deep"),
            std::string::npos);
  EXPECT_NE(header(R"({"a":{"shape":[4],"data_offsets":[0,16]}})").find("a lacks dtype"), std::string::npos);
  EXPECT_NE(header(R"({"a":{"dtype":"F32","shape":[-4],"data_offsets":[0,16]}})").find("malformed"), std::string::npos);
  EXPECT_NE(header(R"({"a":{"dtype":"F32","shape":[4],"data_offsets":[16,0]}})").find("before it begins"), std::string::npos);
  EXPECT_NE(header(R"({"a":{"dtype":"F32","shape":[5],"data_offsets":[0,16]}})").find("does not fill"), std::string::npos);
  EXPECT_NE(header(R"({"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}})").find("does not fill"),
            std::string::npos);
  EXPECT_NE(header(R"({"a":{"dtype":"F32","shape":[4],"data_offsets":[0,99999999999999]}})").find("truncated"), std::string::npos);
  EXPECT_NE(refusal(std::string(8, '\xff')).find("header claims"), std::string::npos);
}

TEST_F(Safetensors, WhatIsNobodysOrTwoTensorsIsRefused) {
  const auto header = [&](const std::string& h, size_t bytes = 16) { return refusal(with_size(h, std::string(bytes, '\0'))); };
  const auto says = [](const std::string& text, const std::string& part) { EXPECT_NE(text.find(part), std::string::npos) << text; };
  const std::string two = R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":)";
  EXPECT_EQ(header(two + "[8,16]}}"), "");  // the form that is right
  says(header(two + "[4,12]}}", 12), "b begins at byte 4 inside a");
  says(header(two + "[0,8]}}", 8), "inside");
  says(header(two + "[12,20]}}", 20), "bytes 8 to 12 before b belong to no tensor");
  says(header(two + "[8,16]}}", 17), "end at byte 16 of the data, the file holds 17");
  says(header(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[8,16]}})"), "bytes 0 to 8 before a");
  says(header(two + R"([8,16]},"a":{"dtype":"F32","shape":[2],"data_offsets":[8,16]}})"), "a stands twice");
  says(header(R"({"a":{"dtype":"F32","dtype":"F16","shape":[4],"data_offsets":[0,16]}})"), "dtype stands twice");
  says(header(R"({"a":{"dtype":"F99","shape":[4],"data_offsets":[0,16]}})"), "a has type F99, which is not known");
  says(header(R"({"a":{"dtype":"F32","shape":[0,9223372036854775808],"data_offsets":[0,0]}})", 0), "does not fill");
  says(header(R"({"__metadata__":{"format":1}})", 0), "__metadata__.format is 1; expected text");
  says(header("{}", 3), "end at byte 0 of the data, the file holds 3");
  EXPECT_EQ(header("{}", 0), "");
  EXPECT_EQ(header(R"({"none":{"dtype":"F16","shape":[0],"data_offsets":[0,0]},"a":{"dtype":"I8","shape":[16],"data_offsets":[0,16]}})"),
            "");
}

}  // namespace
}  // namespace zerostep
