// Loading a Hugging Face directory at 4 ranks, stage 3: the bytes that a rank reads, and the speed against plain reads of the same bytes,
// measured in turns in this run (bf16: and a fill of memory for the fp32 values). Run by hand:
//   load_bench [FOLDER]
// GPT-2 of 12 layers, 1024 wide, 152 M parameters, fp32 and bf16: files of 611 and 306 MB, written to FOLDER (default: the current one).
// Ranks are threads. Takes about two minutes, 4 GB of memory and 1 GB of disk.
#include <c10/util/BFloat16.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <thread>

#include "base/error.h"
#include "models/gpt2/gpt2.h"
#include "models/hugging_face.h"
#include "models/objective.h"
#include "models/safetensors.h"
#include "runtime/engine/engine.h"
#include "sharding/local_ranks.h"
#include "tests/support/timing.h"

namespace {

using namespace zerostep;
using testing::median;
using testing::seconds_of;
namespace fs = std::filesystem;

constexpr int kRanks = 4, kRounds = 5;

// What one rank asked for: where in memory it went, how much, and the time that the reading took.
struct Reads {
  struct Piece {
    int64_t first, count;  // global elements
    float* out;
  };
  std::vector<Piece> pieces;
  int64_t bytes = 0;
  double seconds = 0;
};

// Reads the same bytes from the file with pread, into memory of as many bytes that is as new as what the engine reads into. Where the
// file's values are narrower than fp32, as many bytes of new memory as the fp32 values take are filled too.
double read_plainly(const std::string& file, const std::vector<Reads>& reads, int64_t header, int64_t element) {
  std::vector<double> seconds(reads.size());
  std::vector<std::thread> threads;
  for (size_t r = 0; r < reads.size(); ++r)
    threads.emplace_back([&, r] {
      const auto size = static_cast<size_t>(reads[r].bytes);
      void* memory = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
      ::madvise(memory, size, MADV_HUGEPAGE);
      auto* to = static_cast<std::byte*>(memory);
      const size_t widened_size = 4 * size / static_cast<size_t>(element);
      void* widened = ::mmap(nullptr, widened_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
      ::madvise(widened, widened_size, MADV_HUGEPAGE);
      auto* values = static_cast<std::byte*>(widened);
      const int descriptor = ::open(file.c_str(), O_RDONLY | O_CLOEXEC);
      seconds[r] = seconds_of([&] {
        for (const Reads::Piece& piece : reads[r].pieces) {
          const auto bytes = static_cast<size_t>(element * piece.count);
          if (::pread(descriptor, to, bytes, header + element * piece.first) != static_cast<ssize_t>(bytes))
            fail_run("benchmark: cannot read {}", file);
          to += bytes;
          if (element == 4) continue;
          std::memset(values, 1, static_cast<size_t>(4 * piece.count));
          values += 4 * piece.count;
        }
      });
      ::close(descriptor);
      ::munmap(widened, widened_size);
      ::munmap(memory, size);
    });
  for (std::thread& thread : threads) thread.join();
  return *std::max_element(seconds.begin(), seconds.end());
}

void drop_from_page_cache(const std::string& file) {
  const int descriptor = ::open(file.c_str(), O_RDONLY | O_CLOEXEC);
  ::fdatasync(descriptor);
  ::posix_fadvise(descriptor, 0, 0, POSIX_FADV_DONTNEED);
  ::close(descriptor);
}

float value_at(int64_t index, DType type) {
  const auto value = static_cast<float>(index);
  return type == DType::BF16 ? static_cast<float>(c10::BFloat16(value)) : value;
}

void write_model(const fs::path& directory, const ModelDefinition& model, DType type) {
  std::vector<SafetensorsWriter::Tensor> tensors;
  for (const UnitInfo& unit : model.units())
    for (const ParameterInfo& p : unit.parameters) tensors.push_back({p.name, type, p.shape});
  SafetensorsWriter writer((directory / "model.safetensors").string(), tensors);
  std::vector<float> values;
  for (const UnitInfo& unit : model.units())
    for (const ParameterInfo& p : unit.parameters) {
      values.resize(static_cast<size_t>(p.num_elements()));
      for (int64_t i = 0; i < p.num_elements(); ++i) values[static_cast<size_t>(i)] = static_cast<float>(p.first + i);
      writer.append(values.data(), p.num_elements());
    }
  writer.finish();
  std::ofstream(directory / "config.json") << model.hugging_face_config();
}

void run(const std::string& folder, DType type) {
  const fs::path directory = fs::path(folder) / "zerostep-load-bench";
  fs::create_directories(directory);
  const auto element = static_cast<int64_t>(size_of(type));
  const Gpt2Options options{.n_layer = 12, .n_embd = 1024, .n_head = 16, .n_positions = 512, .vocab_size = 1024};
  const auto model = make_gpt2(options);
  const auto objective = make_cross_entropy();
  write_model(directory, *model, type);
  const std::string file = (directory / "model.safetensors").string();
  const auto file_bytes = static_cast<int64_t>(fs::file_size(file));
  const int64_t header = file_bytes - element * model->num_elements();

  Config config;
  config.zero.stage = 3;
  config.optimizer.type = OptimizerConfig::Type::SGD;
  config.batch = {4, 1, 1};
  config.data.sequence_length = 64;
  const TrainingPlan plan = plan_training(config, *model, *objective, kRanks);
  const auto load = [&] {
    std::vector<Reads> reads(kRanks);
    run_local_ranks(kRanks, {}, [&](Communicator world) {
      Reads& own = reads[static_cast<size_t>(world.rank())];
      // As each process of a job opens the files for itself.
      const auto values = open_hugging_face_values(directory.string(), *model).values;
      const auto read = [&](const ParameterInfo& info, int64_t begin, int64_t count, float* out) {
        own.seconds += seconds_of([&] { values(info, begin, count, out); });
        own.pieces.push_back({info.first + begin, count, out});
        own.bytes += element * count;
        if (count > 0 && out[count - 1] != value_at(info.first + begin + count - 1, type)) fail_run("benchmark: wrong values were read");
      };
      const Engine engine(config, *model, *objective, plan, read, world);
    });
    return reads;
  };
  int64_t largest_unit = 0;
  for (const UnitInfo& unit : model->units()) largest_unit = std::max(largest_unit, element * unit.num_elements());
  for (const bool cold : {false, true}) {
    std::vector<double> ratios, ours, plain;
    int64_t most = 0;
    for (int round = -1; round < kRounds; ++round) {
      if (cold) drop_from_page_cache(file);
      const std::vector<Reads> reads = load();
      double slowest = 0;
      for (const Reads& r : reads) {
        slowest = std::max(slowest, r.seconds);
        most = std::max(most, r.bytes);
      }
      if (cold) drop_from_page_cache(file);
      const double plainly = read_plainly(file, reads, header, element);
      if (round < 0) continue;
      ours.push_back(slowest);
      plain.push_back(plainly);
      ratios.push_back(plainly / slowest);
    }
    if (!cold)
      fmt::print(
          "{} ranks, a file of {:.0f} MB, {}: the most that a rank reads is {:.1f} MB, {:.3f} of a quarter, the header and one unit (to "
          "reach: "
          "1)\n",
          kRanks, static_cast<double>(file_bytes) / 1e6, name_of(type), static_cast<double>(most) / 1e6,
          static_cast<double>(most) / static_cast<double>(file_bytes / 4 + header + largest_unit));
    fmt::print("{:<28} {:6.2f} of plain reads of the same bytes (to reach: 0.8)   {:.2f} GB/s, plain {:.2f} GB/s\n",
               cold ? "not in the page cache" : "in the page cache", median(ratios), static_cast<double>(file_bytes) / median(ours) / 1e9,
               static_cast<double>(file_bytes) / median(plain) / 1e9);
  }
  fs::remove_all(directory);
}

}  // namespace

int main(int argc, char** argv) {
  try {
    for (const DType type : {DType::F32, DType::BF16}) run(argc > 1 ? argv[1] : ".", type);
    return 0;
  } catch (const std::exception& error) {
    fmt::print(stderr, "load_bench: {}\n", error.what());
    return 1;
  }
}
