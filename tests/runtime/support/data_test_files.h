#pragma once
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <string>
#include <vector>

#include "base/error.h"
#include "models/tokenizer/tokenizer.h"
#include "runtime/data/data_stream.h"
#include "tests/support/scratch_folder.h"

namespace zerostep {

// A test with a folder of its own.
class DataTest : public ::testing::Test {
 protected:
  std::string path(const std::string& name) const { return (folder_ / name).string(); }
  std::string write(const std::string& name, const std::string& text) const {
    std::filesystem::create_directories((folder_ / name).parent_path());
    std::ofstream(folder_ / name, std::ios::binary) << text;
    return path(name);
  }
  // The same, as if written an hour ago.
  std::string write_old(const std::string& name, const std::string& text) const {
    const std::string file = write(name, text);
    age(file);
    return file;
  }
  static void age(const std::string& file) {
    std::filesystem::last_write_time(file, std::filesystem::file_time_type::clock::now() - std::chrono::hours(1));
  }
  template <typename T>
  std::string write_values(const std::string& name, const std::vector<T>& values, const std::string& before = "") const {
    return write(name, before + std::string(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)));
  }

  DataOptions options(const std::vector<std::string>& paths, int64_t sequence_length = 4) const {
    DataOptions options;
    options.sources = {{.paths = paths}};
    options.sequence_length = sequence_length;
    options.vocabulary_size = 257;
    options.seed = 1234;
    options.warn = [this](const std::string& text) { warnings_.push_back(text); };
    return options;
  }

  ScratchFolder scratch_;
  const std::filesystem::path& folder_ = scratch_.folder();
  mutable std::vector<std::string> warnings_;
};

// The elements of a tensor of whole numbers.
inline std::vector<int64_t> values(const at::Tensor& tensor) {
  const at::Tensor flat = tensor.contiguous();
  return {flat.data_ptr<int64_t>(), flat.data_ptr<int64_t>() + flat.numel()};
}

// The byte tokenizer, counting and changeable.
class CountingTokenizer : public Tokenizer {
 public:
  explicit CountingTokenizer(std::string name = "counting", int32_t shift = 0) : name_(std::move(name)), shift_(shift) {}
  void encode(std::string_view text, std::vector<int32_t>& out) const override {
    bytes += static_cast<int64_t>(text.size());
    if (on_encode) on_encode();
    for (char c : text) out.push_back(shift_ + static_cast<unsigned char>(c));
  }
  std::string decode(const std::vector<int32_t>&) const override { return {}; }
  int64_t vocabulary_size() const override { return shift_ + 257; }
  int32_t end_of_document() const override { return shift_ + 256; }
  std::string fingerprint() const override { return name_; }
  size_t split_point(std::string_view text, size_t at) const override { return std::min(at, text.size()); }

  mutable std::atomic<int64_t> bytes = 0;
  std::function<void()> on_encode;

 private:
  std::string name_;
  int32_t shift_;
};

inline std::vector<int32_t> bytes_of(const std::string& text) {
  std::vector<int32_t> tokens;
  for (char c : text) tokens.push_back(static_cast<unsigned char>(c));
  return tokens;
}

// Documents as the byte tokenizer has them, each with its end.
inline std::vector<int32_t> documents(const std::vector<std::string>& texts) {
  std::vector<int32_t> tokens;
  for (const auto& text : texts) {
    for (int32_t token : bytes_of(text)) tokens.push_back(token);
    tokens.push_back(256);
  }
  return tokens;
}

// All tokens of a stream that is not shuffled, but for the last partial sample.
inline std::vector<int32_t> all_tokens(const DataStream& stream) {
  std::vector<int32_t> tokens;
  for (int64_t i = 0; i < stream.num_samples(); ++i) {
    const auto sample = stream.sample(i);
    tokens.insert(tokens.end(), sample.begin(), sample.end() - 1);
    if (i + 1 == stream.num_samples()) tokens.push_back(sample.back());
  }
  return tokens;
}

// Expects an Error whose text holds every part.
template <typename Error>
void expect_error(const std::function<void()>& action, const std::vector<std::string>& parts) {
  try {
    action();
    ADD_FAILURE() << "no error; expected one with " << parts.front();
  } catch (const Error& e) {
    for (const auto& part : parts)
      EXPECT_NE(std::string(e.what()).find(part), std::string::npos) << "'" << part << "' is not in: " << e.what();
  }
}

}  // namespace zerostep
