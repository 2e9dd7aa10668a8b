// Speed of `plot`: 50 runs of 100,000 steps on two threads, and the time that it may take. The runs have ten numbers of queries and one
// mode: `compare` has ten means of 5 runs, and with `--by mode` one of 50. Run by hand:
//   plot_bench [FOLDER]
// Writes the runs' files (1.2 GB) below FOLDER (default: the current one), reads them once so that they are in memory, and removes them.
#include <fmt/format.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "experiments/records/read_file.h"
#include "experiments/report/plot.h"
#include "tests/support/timing.h"

namespace {

using namespace zerostep;
using testing::seconds_of;
namespace fs = std::filesystem;

constexpr int kRuns = 50, kSteps = 100000;
constexpr double kMostSeconds = 5;

void write_run(const fs::path& folder, int run) {
  fs::create_directories(folder);
  std::string text =
      "timestamp,epoch,step,mode,scope,q,lr,batch_size,optimizer,bp_interval,loss,grad_norm,eval_loss,cosine,unchanged_share,loss_kind,"
      "eval_accuracy,tokens_per_second,step_seconds,loss_scale,skipped,device_peak_bytes,host_peak_bytes,file_peak_bytes,elements_gathered,"
      "elements_reduced,bp_loss,clip_scale\n";
  for (int k = 0; k < kSteps; ++k) {
    const double loss = 2 + 3 * std::exp(-k / 2e4) + 0.05 * std::sin(k * 1.7 + run);
    fmt::format_to(std::back_inserter(text), "2026-01-01T{:02}:{:02}:{:02}.{:03}Z,0,{},zo,full,8,0.001,8,AdamW,,{},{},", k / 360000,
                   k / 6000 % 60, k / 100 % 60, k % 100 * 10, k, loss, loss * 17.3);
    if (k % 1000 == 999) fmt::format_to(std::back_inserter(text), "{}", loss + 0.1);
    fmt::format_to(std::back_inserter(text), ",,,pairs,,{},{},1,0,1250112,0,0,0,0,,{}\n", 25600 + loss, 0.01 + loss * 1e-4, 1 / loss);
  }
  std::ofstream(folder / "metrics.csv") << text;
  std::ofstream(folder / "config.json") << fmt::format(
      R"({{"seed": {}, "train_batch_size": 8, "step": {{"mode": "zo", "queries": {}}}, "run": {{"steps": {}}}}})", run % 5, 1 << run / 5,
      kSteps);
  std::ofstream(folder / "log.txt") << kSteps << " steps done in 17:00: loss 5 -> 2\n";
}

}  // namespace

int main(int argc, char** argv) {
  const fs::path folder = fs::path(argc > 1 ? argv[1] : ".") / "plot_bench";
  for (int run = 0; run < kRuns; ++run) write_run(folder / fmt::format("runs/run-{:02}", run), run);
  size_t bytes = 0;
  const double reading = seconds_of([&] {
    for (int run = 0; run < kRuns; ++run) bytes += read_file(folder / fmt::format("runs/run-{:02}/metrics.csv", run)).size();
  });
  fmt::print("{} runs of {} steps, {:.2f} GB, read alone by one thread in {:.2f} s\n", kRuns, kSteps, static_cast<double>(bytes) * 1e-9,
             reading);
  bool is_quick = true;
  using Views = std::vector<std::string>;
  struct Case {
    Views views;
    const char *x, *by;
  };
  for (const auto& [views, x, by] : {Case{{"loss"}, "step", ""},
                                     {{"compare"}, "step", ""},
                                     {{"compare"}, "seconds", ""},
                                     {{"compare"}, "seconds", "mode"},
                                     {{"zo"}, "step", ""},
                                     {{}, "", ""}}) {  // as a sweep's report, over seconds and forwards too
    PlotRequest request;
    request.places = {(folder / "runs").string()};
    request.views = views;
    request.x = x;
    request.by = by;
    request.out = (folder / "plots").string();
    request.threads = 2;
    const double seconds = seconds_of([&] { plot(request); });
    is_quick &= seconds <= kMostSeconds;
    fmt::print("plot {:<15} {:<12}{:<10} {:>6.2f} s  to reach: {:g} s\n", views.empty() ? "" : "--view " + views[0],
               *x == '\0' ? "" : fmt::format("--x {}", x), *by == '\0' ? "" : fmt::format(" --by {}", by), seconds, kMostSeconds);
  }
  fs::remove_all(folder);
  return is_quick ? 0 : 1;
}
