// Speed of checkpoints: each line a ratio of two things measured in turns in this run, and the figure to reach. Run by hand:
//   checkpoint_bench [FOLDER]
// GPT-2 of 8 layers, 512 wide, 25.6 M parameters, fp32, AdamW, one rank: a state of 307 MB, written FOLDER (default: the current one),
// which should be on a disk. Takes about a minute, 1 GB of memory and of disk.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <fcntl.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>

#include "base/error.h"
#include "runtime/checkpoint/checkpoint_reader.h"
#include "runtime/checkpoint/checkpoint_writer.h"
#include "runtime/checkpoint/run_state.h"
#include "sharding/local_ranks.h"
#include "tests/support/benchmark_gpt2.h"
#include "tests/support/timing.h"

namespace {

using namespace zerostep;
using testing::median;
using testing::seconds_of;
namespace fs = std::filesystem;

constexpr int kRounds = 7;

// What `dd oflag=direct conv=fsync` does: blocks of 8 MiB from aligned memory.
void write_plainly(const std::string& path, const std::byte* data, size_t size) {
  const int file = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_DIRECT, 0666);
  if (file < 0) fail_input("benchmark: {} takes no direct writes: name a folder on a disk", path);
  for (size_t at = 0; at < size;) {
    const ssize_t n = ::write(file, data + at, std::min(size - at, size_t{8} << 20));
    if (n <= 0) fail_run("benchmark: cannot write {}", path);
    at += static_cast<size_t>(n);
  }
  ::fsync(file);
  ::close(file);
}

void print(const char* what, double ratio, const char* reach, const std::string& figures) {
  fmt::print("{:<70} {:>6.2f}  to reach: {:<8} {}\n", what, ratio, reach, figures);
}

int run(const std::string& folder) {
  at::set_num_threads(2);
  Config config;
  config.optimizer.lr = 1e-6;
  config.batch = {4, 4, 1};
  config.data.sequence_length = 256;
  const auto model = make_gpt2(testing::benchmark_gpt2());
  const auto objective = make_cross_entropy();
  Batch batch;
  batch.tokens = at::randint(testing::benchmark_gpt2().vocab_size, {4, 256}, at::kLong);
  batch.labels = batch.tokens;
  batch.sample_ids = {0, 1, 2, 3};
  batch.valid_tokens = batch.global_valid_tokens = 4 * 256;
  run_local_ranks(1, {}, [&](Communicator world) {
    const TrainingPlan plan = plan_training(config, *model, *objective, 1);
    const auto initial = [](const ParameterInfo& info, int64_t begin, int64_t count, float* out) {
      initial_values(info, 1, begin, count, out);
    };
    Engine engine(config, *model, *objective, plan, initial, world);
    ShardImage image(owned_state(engine.plan(), 0));
    const CopyState copy_state = [&](std::span<std::byte* const> targets) { engine.copy_state(targets); };
    const size_t bytes = image.size();
    fmt::print("GPT-2 8 x 512, 25.6 M parameters, AdamW: {:.0f} MB of state, 2 threads, medians of {} rounds\n",
               static_cast<double>(bytes) / 1e6, kRounds);
    // A plain copy of as many bytes, by as many threads.
    std::vector<std::byte> from(bytes, std::byte{1}), to(bytes, std::byte{2});
    std::vector<double> copies, stages, plain, ours, alone, beside;
    const auto copy = [&] {
      at::parallel_for(0, static_cast<int64_t>(bytes), int64_t{1} << 18, [&](int64_t begin, int64_t end) {
        std::memcpy(to.data() + begin, from.data() + begin, static_cast<size_t>(end - begin));
      });
    };
    for (int i = -1; i < kRounds; ++i) {
      const double c = seconds_of(copy), s = seconds_of([&] { image.stage(copy_state); });
      if (i < 0) continue;
      copies.push_back(c);
      stages.push_back(s);
    }
    print("what a step waits for: copying the state, over a memory copy", median(stages) / median(copies), "<= 1.20",
          fmt::format("{:.0f} ms over {:.0f} ms", 1e3 * median(stages), 1e3 * median(copies)));
    const size_t whole = (bytes + kDirectAlignment - 1) / kDirectAlignment * kDirectAlignment;
    for (int i = -1; i < kRounds; ++i) {
      const double p = seconds_of([&] { write_plainly(folder + "/plain", image.data(), whole); });
      const double o = seconds_of([&] { write_file_directly(Disk::real(), folder + "/ours", image.data(), bytes); });
      if (i < 0) continue;
      plain.push_back(p);
      ours.push_back(o);
    }
    const auto rate = [&](const std::vector<double>& seconds) { return static_cast<double>(bytes) / 1e6 / median(seconds); };
    print("writing behind, over plain direct writes", rate(ours) / rate(plain), ">= 0.80",
          fmt::format("{:.0f} MB/s over {:.0f} MB/s", rate(ours), rate(plain)));
    fs::remove(folder + "/plain");
    fs::remove(folder + "/ours");
    CheckpointWriter writer({.folder = folder + "/checkpoints"}, owned_state(engine.plan(), 0), copy_state);
    int64_t step = 0;
    const auto train = [&] { return seconds_of([&] { engine.train_step(step++, [&](int64_t) { return batch; }); }); };
    for (int i = -1; i < kRounds; ++i) {
      writer.finish();
      const double a = train();
      Manifest manifest;
      manifest.step = step;
      manifest.engine = progress_json(engine.progress());
      writer.save(manifest);
      const double b = train();
      if (i < 0) continue;
      alone.push_back(a);
      beside.push_back(b);
    }
    writer.finish();
    print("a step while a checkpoint is being written, over one without", median(beside) / median(alone), "<= 1.10",
          fmt::format("{:.0f} ms over {:.0f} ms; a checkpoint takes {:.0f} ms", 1e3 * median(beside), 1e3 * median(alone),
                      1e3 * writer.times().written_seconds / static_cast<double>(writer.times().count)));
    std::vector<double> verified;
    for (int i = 0; i < 3; ++i) {
      CheckpointReader reader(latest_checkpoint(folder + "/checkpoints"));
      verified.push_back(seconds_of([&] { reader.verify(0); }));
    }
    fmt::print("checking a file against its checksum: {:.0f} MB/s\n", rate(verified));
  });
  fs::remove_all(folder + "/checkpoints");
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc > 1 ? argv[1] : ".");
  } catch (const std::exception& error) {
    fmt::print(stderr, "{}\n", error.what());
    return 2;
  }
}
