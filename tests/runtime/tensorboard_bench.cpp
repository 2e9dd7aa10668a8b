// What writing for TensorBoard costs a step: the time of a step's numbers, DeepSpeed's series and ours, with the flush that comes every 5
// s, as a share of a step of 20 ms. Run by hand:
//   tensorboard_bench [FOLDER]
// Writes 36 MB to FOLDER (default: the current one), in a folder that goes again. Takes seconds.
#include <fmt/format.h>

#include <filesystem>

#include "runtime/report/metrics.h"
#include "runtime/report/tensorboard.h"
#include "tests/support/timing.h"

namespace {

using namespace zerostep;

constexpr double kStepSeconds = 20e-3, kFlushSeconds = 5, kShareToReach = 0.5;
constexpr int64_t kSteps = 50000, kStepsAFlush = static_cast<int64_t>(kFlushSeconds / kStepSeconds), kRounds = 5;

// A row with every number.
MetricsRow full_row() {
  MetricsRow row;
  row.q = row.bp_interval = 4;
  row.loss = row.grad_norm = row.eval_loss = row.cosine = row.unchanged_share = row.eval_accuracy = row.bp_loss = row.clip_scale = 0.123;
  row.tokens_per_second = 1e5;
  row.step_seconds = kStepSeconds;
  row.device_peak_bytes = row.host_peak_bytes = row.file_peak_bytes = row.elements_gathered = row.elements_reduced = int64_t{1} << 33;
  return row;
}

int run(const std::string& folder) {
  const std::string place = folder + "/tensorboard_bench_files";
  std::vector<double> processor, wall;
  uintmax_t bytes = 0;
  for (int64_t round = 0; round < kRounds; ++round) {
    TensorBoard::Options options;
    options.folder = place;
    options.longest_wait = std::chrono::hours(1);
    options.warn = [](const std::string& text) { fmt::print(stderr, "{}\n", text); };
    TensorBoard board(std::move(options));
    MetricsRow row = full_row();
    const auto steps = [&] {
      for (row.step = 0; row.step < kSteps; ++row.step) {
        const TensorBoard::Scalar series[] = {{"Train/Samples/train_loss", *row.loss},
                                              {"Train/Samples/bp_loss", *row.bp_loss},
                                              {"Train/Samples/lr", row.lr},
                                              {"Train/Samples/loss_scale", row.loss_scale}};
        board.write_on_samples(8 * (row.step + 1), series);
        board.write_on_steps(row.step, metrics_numbers(row));
        if (row.step % kStepsAFlush == 0) board.flush();
      }
    };
    double elapsed = 0;
    processor.push_back(testing::seconds_of([&] { elapsed = testing::seconds_of(steps); }, CLOCK_THREAD_CPUTIME_ID) / kSteps);
    wall.push_back(elapsed / kSteps);
    board.end(TensorBoard::End::Done);
    for (const auto& entry : std::filesystem::directory_iterator(place)) bytes = entry.file_size();
  }
  std::filesystem::remove_all(place);
  const double share = 100 * testing::median(wall) / kStepSeconds;
  fmt::print("{} series a step, {} bytes: {:.1f} us of processor time, {:.1f} us in all: {:.3f} % of a step of {:g} ms; to reach: {:g} %\n",
             4 + metrics_numbers(full_row()).size(), bytes / kSteps, 1e6 * testing::median(processor), 1e6 * testing::median(wall), share,
             1e3 * kStepSeconds, kShareToReach);
  return share <= kShareToReach ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) { return run(argc > 1 ? argv[1] : "."); }
