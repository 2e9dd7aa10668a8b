#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <set>
#include <vector>

#include "base/console.h"
#include "base/error.h"
#include "base/format.h"
#include "launch/commands/commands.h"
#include "launch/machine.h"
#include "launch/replaceable.h"
#include "runtime/timing/measure_machine.h"
#include "sharding/local_ranks.h"

namespace zerostep {
namespace {

constexpr double kTimeoutSeconds = 600;
// What takes the same time again and again on a machine with nothing else to do, and how far its repetitions may lie apart.
constexpr std::array kSteadyFigures{"noise", "memory", "updates"};
constexpr double kSteadySpread = 0.25;

// A line to stderr for each part, with the time that is left of all.
class Progress {
 public:
  explicit Progress(double seconds) : seconds_(seconds) {}
  void begins(const std::string& what) const {
    const double passed = std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
    print_err("measuring {} ({:.0f} s left)\n", what, std::max(1.0, std::ceil(seconds_ - passed)));
  }

 private:
  double seconds_;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

void require_folder(const char* option, const std::filesystem::path& folder) {
  std::error_code error;
  if (!std::filesystem::is_directory(folder, error)) fail_input("{}: {} is no folder: expected one that is there", option, folder.string());
}

std::string gigabytes(double bytes_per_second) { return fmt::format("{:.3g} GB/s", 1e-9 * bytes_per_second); }
std::string microseconds(double seconds) { return fmt::format("{:.3g} us", 1e6 * seconds); }
std::string text_of(const Link& link) {
  return link.is_known() ? fmt::format("{} + {}", microseconds(link.latency_seconds), gigabytes(link.bytes_per_second)) : "not measured";
}

std::string products_text(const Machine& m) {
  std::set<int64_t> widths, rows;
  std::vector<DType> types;
  for (const GemmRate& rate : m.gemm) {
    widths.insert(rate.width);
    rows.insert(rate.rows);
    if (std::find(types.begin(), types.end(), rate.type) == types.end()) types.push_back(rate.type);
  }
  std::string text = fmt::format("{:<20}{:>6}", "GFLOP/s of products", "rows");
  for (const int64_t width : widths) text += fmt::format("{:>8}", width);
  text += " wide\n";
  for (const DType type : types)
    for (const int64_t row : rows) {
      text += fmt::format("{:<20}{:>6}", row == *rows.begin() ? fmt::format("  {}", name_of(type)) : "", row);
      for (const int64_t width : widths) {
        const auto is_it = [&](const GemmRate& rate) { return rate.type == type && rate.rows == row && rate.width == width; };
        const auto found = std::find_if(m.gemm.begin(), m.gemm.end(), is_it);
        text += fmt::format("{:>8}", found == m.gemm.end() ? "-" : fmt::format("{:.3g}", 1e-9 * found->flops_per_second));
      }
      text += "\n";
    }
  return text;
}

std::string text_of(const MeasuredMachine& measured) {
  const Machine& m = measured.machine;
  std::string text =
      fmt::format("{}, {} a host, {} each\n", m.name, counted(m.ranks_per_host, "rank"), counted(m.threads_per_rank, "thread"));
  text += products_text(m);
  // `spread`: of which of the measurements.
  const auto add = [&](const std::string& name, const std::string& figure, const std::string& spread) {
    const auto found = measured.spreads.find(spread.empty() ? name : spread);
    const std::string within = found == measured.spreads.end() ? "" : fmt::format("middle half within {:.0f} %", 100 * found->second);
    text += fmt::format("{:<27}{:<26}{}\n", name, figure, within);
  };
  for (const ElementwiseRate& rate : m.elementwise) {
    const std::string name = fmt::format("other operations, {}", name_of(rate.type));
    add(name, gigabytes(rate.bytes_per_second) + " written", "");
    add(fmt::format("attention, {}", name_of(rate.type)), fmt::format("{:.3g} GFLOP/s", 1e-9 * rate.attention_flops_per_second), "");
  }
  add("an operation of LibTorch", microseconds(m.operation_seconds), "");
  add("memory", gigabytes(m.memory_bytes_per_second), "");
  add("noise", fmt::format("{:.3g} M normals/s", 1e-6 * m.noise_elements_per_second), "");
  add("AdamW", gigabytes(m.update_bytes_per_second), "updates");
  add("file reads", text_of(m.file_read), "");
  add("file writes", text_of(m.file_write), "");
  if (m.gather_in_host.is_known()) {
    add("gathers in a host", text_of(m.gather_in_host), "");
    add("reductions in a host", text_of(m.reduce_in_host), "");
    add("an agreement", microseconds(m.agreement_seconds), "agreements");
  }
  if (m.gather_across_hosts.is_known()) {
    add("gathers between hosts", text_of(m.gather_across_hosts), "");
    add("reductions between hosts", text_of(m.reduce_across_hosts), "");
  }
  text += fmt::format("{:<27}{}\n", "files", measured.disk);
  text += fmt::format("{:<27}memory {}, disk {}\n", "free, a rank", human_bytes(m.host_bytes), human_bytes(m.file_bytes));
  return text;
}

// Prints and keeps what was measured.
void publish(const MeasuredMachine& measured, const std::string& file) {
  print_out("{}", text_of(measured));
  if (std::any_of(kSteadyFigures.begin(), kSteadyFigures.end(),
                  [&](const char* name) { return measured.spreads.at(name) > kSteadySpread; }))
    print_err("warning: the figures scatter, as they do where something else runs meanwhile: measure again while nothing does\n");
  const std::string kept = keep_measured_machine(measured.machine);
  print_out("{:<27}{}\n\n", "kept", kept.empty() ? "nowhere: $XDG_CACHE_HOME or ~/.cache cannot be written" : kept);
  flush_out();
  if (!file.empty()) write_machine(file, measured.machine);
}

int measure_ranks_of_mpi(Job& job, const BenchMachineArguments& arguments, MeasureOptions options) {
  options.ranks_per_host = job.local_size();
  options.first_of_host = job.first_of_host();
  options.cores = job.cores();
  options.seconds = arguments.seconds;
  set_threads(job.cores());
  const Progress progress(arguments.seconds);
  if (job.speaks()) options.begins = [&](const std::string& what) { progress.begins(what); };
  try {
    const MeasuredMachine measured = measure_machine(job.start(kTimeoutSeconds), options, Device::cpu(), host_kernels());
    if (job.speaks()) publish(measured, arguments.file);
    return kDone;
  } catch (const std::exception& error) {
    return job.failed(error);
  }
}

int measure_threads_as_ranks(const BenchMachineArguments& arguments, MeasureOptions options) {
  std::vector<int> counts{1};
  if (arguments.ranks > 0)
    counts = {arguments.ranks};
  else if (num_cores() > 1)
    counts.push_back(num_cores());
  const Progress progress(arguments.seconds);
  for (const int count : counts) {
    options.ranks_per_host = count;
    options.cores = static_cast<double>(num_cores()) / count;
    options.seconds = arguments.seconds / static_cast<double>(counts.size());
    const int threads = set_threads(std::max(1, num_cores() / count));
    MeasuredMachine measured;
    run_local_ranks(count, {kTimeoutSeconds}, [&](const Communicator& ranks) {
      MeasureOptions own = options;
      if (ranks.rank() == 0)
        own.begins = [&](const std::string& what) {
          progress.begins(fmt::format("{}, {} x {}", what, counted(count, "rank"), counted(threads, "thread")));
        };
      MeasuredMachine result = measure_machine(ranks, own, Device::cpu(), host_kernels());
      if (ranks.rank() == 0) measured = std::move(result);
    });
    publish(measured, count == counts.back() ? arguments.file : "");
  }
  return kDone;
}

}  // namespace

int bench_machine(Job& job, const BenchMachineArguments& arguments) {
  MeasureOptions options;
  job.together("arguments", [&] {
    const char* temporary = std::getenv("TMPDIR");
    options.scratch_folder = !arguments.scratch.empty() ? arguments.scratch : temporary != nullptr ? temporary : "/tmp";
    require_folder("--scratch", options.scratch_folder);
    if (!arguments.file.empty()) check_replaceable("--out", arguments.file, "{\n  \"name\"");
    if (job.size() > 1 && arguments.ranks > 0) fail_input("--ranks is for threads of one process: here mpirun has started {}", job.size());
  });
  return job.size() > 1 ? measure_ranks_of_mpi(job, arguments, options) : measure_threads_as_ranks(arguments, options);
}

}  // namespace zerostep
