#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <vector>

#include "base/console.h"
#include "base/error.h"
#include "base/format.h"
#include "base/program_name.h"
#include "launch/commands/commands.h"
#include "launch/device.h"
#include "launch/machine.h"
#include "launch/measured_text.h"
#include "launch/rank_devices.h"
#include "launch/replaceable.h"
#include "offload/scratch_folder.h"
#include "runtime/timing/measure_machine.h"
#include "sharding/local_ranks.h"

namespace zerostep {
namespace {

// Of a collective, beside the seconds that are asked for: a rank may wait for one that measures what another has left out.
constexpr double kTimeoutSeconds = 600;

// A line to stderr for each part, with about how long everything that is left takes.
class Progress {
 public:
  explicit Progress(double seconds) : seconds_(seconds) {}
  // `left`: seconds from now on.
  void begins(const std::string& what, double left) const {
    const double passed = std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
    // How long everything takes is an estimate: a tenth more than was given is within it, and nothing to tell.
    const double over = passed + left - seconds_;
    print_err("measuring {} ({:.{}f} s left{})\n", what, left, left < 10 ? 1 : 0,
              over > 0.1 * seconds_ ? fmt::format(", {:.0f} s more than the {:.4g} s given", std::ceil(over), seconds_) : "");
  }

 private:
  double seconds_;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

void require_folder(const char* option, const std::filesystem::path& folder) {
  std::error_code error;
  if (!std::filesystem::is_directory(folder, error)) fail_input("{}: {} is no folder: expected one that is there", option, folder.string());
}

// Everything is measured once at least, whatever time is given: that it would take longer is said before.
void require_time(double seconds, const std::vector<int>& counts, double cores) {
  const double least = kLeastMeasureSeconds * static_cast<double>(counts.size()) * std::max(1.0, counts.back() / cores);
  if (seconds < least)
    fail_input("--seconds is {:g}: {} on {} take {:.2g} s at least", seconds,
               counts.size() > 1 ? fmt::format("1 rank and then {}", counts.back()) : counted(counts.back(), "rank"),
               counted(std::max<int64_t>(1, std::lround(cores)), "core"), least);
}

// Prints and keeps what was measured, and writes it to `file`; "": nowhere else.
void publish(const MeasuredMachine& measured, const std::string& file, bool replaces_any, const MeasuredOn& on = {}) {
  print_out("{}", text_of(measured, on));
  const Keeping keeping = keep_measured_machine(measured.machine, replaces_any, on.key);
  const bool is_kept = keeping.why_not.empty();
  const std::string unreadable = keeping.replaces_unreadable ? ", in place of a file that could not be read" : "";
  const std::string earlier =
      keeping.num_earlier == 0
          ? ""
          : fmt::format(", with {} of an earlier measurement that were faster (--force: without)", counted(keeping.num_earlier, "figure"));
  print_out("{:<27}{}\n\n", "kept", is_kept ? keeping.file + earlier + unreadable : "not: " + keeping.why_not);
  flush_out();
  if (measured.machine.is_unsteady)
    print_err(
        "warning: something else ran meanwhile: the figures of {} are not to be relied on{}. Run `{} bench machine{}` again while "
        "nothing else runs\n",
        fmt::join(measured.disturbed, "; "), is_kept ? ", and predictions that use them will say so" : "", program_name(),
        on.key.empty() ? "" : " --device cuda");
  if (!file.empty()) write_machine(file, measured.machine);
}

// Every rank of the job measures; on GPUs as a run's ranks reach each other there.
int measure_ranks_of_job(Job& job, const BenchMachineArguments& arguments, const Device& device, MeasureOptions options) {
  options.ranks_per_host = job.local_size();
  options.first_of_host = job.first_of_host();
  options.cores = job.core_share();
  options.seconds = arguments.seconds;
  const bool on_gpu = !device.is_host();
  if (on_gpu) options.ranks_of_device = ranks_of_gpu(job.local_size());
  set_threads(job.cores());
  const Progress progress(arguments.seconds);
  if (job.speaks()) options.begins = [&](const std::string& what, double left) { progress.begins(what, left); };
  MeasuredOn on;
  if (on_gpu) on = {devices_text(devices_of_ranks(job, device)), gpu_of_figures(device.model(), job.local_size()), ""};
  if (on_gpu && job.speaks()) print_err("measuring {} and the host beside it\n", on.devices);
  try {
    Config config;
    config.run.collective_timeout_seconds = kTimeoutSeconds + arguments.seconds;
    const DeviceGroup group = group_on(device, job.start(config.run.collective_timeout_seconds), config);
    if (job.speaks() && !group.warning.empty()) print_err("warning: {}\n", group.warning);
    on.collectives = group.ranks.backend();
    const MeasuredMachine measured = measure_machine(group.ranks, options, device, kernels_of(device));
    if (job.speaks()) publish(measured, arguments.file, arguments.replaces_any, on);
    return kDone;
  } catch (const std::exception& error) {
    return job.failed(error);
  }
}

int measure_threads_as_ranks(const std::vector<int>& counts, const BenchMachineArguments& arguments, MeasureOptions options) {
  const Progress progress(arguments.seconds);
  for (const int count : counts) {
    options.ranks_per_host = count;
    options.cores = static_cast<double>(num_cores()) / count;
    options.seconds = arguments.seconds / static_cast<double>(counts.size());
    const int threads = set_threads(std::max(1, num_cores() / count));
    MeasuredMachine measured;
    run_local_ranks(count, {kTimeoutSeconds + arguments.seconds}, [&](const Communicator& ranks) {
      MeasureOptions own = options;
      if (ranks.rank() == 0)
        own.begins = [&](const std::string& what, double left) {
          progress.begins(fmt::format("{}, {} x {}", what, counted(count, "rank"), counted(threads, "thread")),
                          left + (count == counts.back() ? 0 : options.seconds));
        };
      MeasuredMachine result = measure_machine(ranks, own, Device::cpu(), host_kernels());
      if (ranks.rank() == 0) measured = std::move(result);
    });
    publish(measured, count == counts.back() ? arguments.file : "", arguments.replaces_any);
  }
  return kDone;
}

}  // namespace

int bench_machine(Job& job, const BenchMachineArguments& arguments) {
  MeasureOptions options;
  Config asked;  // as a run would ask for a device
  asked.sources["run.device"] = "--device " + arguments.device;
  asked.run.device = arguments.device;
  job.together("device", [&] {
    const std::string& name = arguments.device;
    if (name != "cpu" && name != "cuda" && name != "auto") fail_input("--device is '{}'; expected cpu, cuda or auto", name);
    settle_device(asked);
  });
  require_same_device(job, asked);
  const bool on_gpu = asked.run.device == "cuda";
  std::vector<int> counts{1};  // of ranks of a host, one after the other
  if (job.size() > 1)
    counts = {job.local_size()};
  else if (arguments.ranks > 0)
    counts = {arguments.ranks};
  else if (num_cores() > 1 && !on_gpu)
    counts.push_back(num_cores());
  const double ranks = counts.back(), cores = job.size() > 1 ? ranks * job.core_share() : num_cores();
  job.together("arguments", [&] {
    const char* temporary = std::getenv("TMPDIR");
    options.scratch_folder = !arguments.scratch.empty() ? arguments.scratch : temporary != nullptr ? temporary : "/tmp";
    require_folder("--scratch", options.scratch_folder);
    if (!arguments.scratch.empty()) require_scratch_folders(std::vector<ScratchDemand>{{"--scratch", arguments.scratch, 0}}, 1);
    if (job.speaks() && !arguments.file.empty()) check_replaceable("--out", arguments.file, "{\n  \"name\"");
    if (job.size() > 1 && arguments.ranks > 0) fail_input("--ranks is for threads of one process: here mpirun has started {}", job.size());
    if (on_gpu && arguments.ranks > 0)
      fail_input(
          "--ranks is for threads of one process on the processor (--device cpu): `mpirun -np {} {} bench machine --device cuda` "
          "measures ranks on GPUs",
          arguments.ranks, program_name());
    require_time(arguments.seconds, counts, cores);
  });
  Device device = Device::cpu();
  job.together("device", [&] { device = open_device(asked, job.local_rank()); });
  if (job.speaks() && !on_gpu && ranks > std::ceil(cores))
    print_err(
        "warning: {} share {} here: `{} plan` and `{} train` have no times for ranks without a core each, so that they use these figures "
        "only from --machine FILE. At most {} have one\n",
        counted(counts.back(), "rank"), counted(std::lround(cores), "core"), program_name(), program_name(),
        counted(std::lround(cores), "rank"));
  return job.size() > 1 || on_gpu ? measure_ranks_of_job(job, arguments, device, options)
                                  : measure_threads_as_ranks(counts, arguments, options);
}

}  // namespace zerostep
