#include "experiments/doctor/machine_checks.h"

#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/ones.h>
#include <dlfcn.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <torch/version.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/core_set.h"
#include "base/device.h"
#include "base/disk_space.h"
#include "base/error.h"
#include "base/format.h"
#include "base/gpu_load.h"
#include "base/nth.h"
#include "base/program_name.h"
#include "experiments/process/run_command.h"
#include "offload/host_optimizer.h"
#include "runtime/timing/machine.h"

namespace zerostep {
namespace fs = std::filesystem;
namespace {

constexpr int64_t kMebibyte = 1 << 20, kGibibyte = 1 << 30;

std::string first_line_of(const std::string& text) { return text.substr(0, text.find('\n')); }

// Free and all bytes of the file system of a folder, or of the nearest folder above it that is there.
struct Space {
  int64_t free = 0, total = 0;
  fs::path folder;
};
std::optional<Space> space_of(fs::path folder) {
  std::error_code error;
  folder = (fs::absolute(folder, error) / "").lexically_normal().parent_path();
  while (!fs::exists(folder, error) && folder.has_relative_path()) folder = folder.parent_path();
  const auto space = disk_space(folder.string());
  if (!space) return std::nullopt;
  return Space{space->free, space->total, folder};
}

// Whether this process may lock more than its limit says (CAP_IPC_LOCK): it tries to.
bool locks_beyond(int64_t limit) {
  constexpr int64_t kMost = 64 * kMebibyte;
  if (limit > kMost) return false;
  const auto size = static_cast<size_t>(limit + kMebibyte);
  void* const data = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (data == MAP_FAILED) return false;
  const bool is_locked = ::mlock(data, size) == 0;
  ::munmap(data, size);
  return is_locked;
}

double seconds_of_product(at::ScalarType type) {
  constexpr int64_t kRows = 256, kWidth = 1024;
  const at::Tensor a = at::ones({kRows, kWidth}, type), b = at::ones({kWidth, kWidth}, type);
  double best = std::numeric_limits<double>::infinity();
  for (int attempt = 0; attempt < 4; ++attempt) {  // the first one makes what the library needs
    const auto begin = std::chrono::steady_clock::now();
    at::mm(a, b);
    best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
  }
  return best;
}

}  // namespace

std::string_view name_of(Verdict verdict) {
  constexpr std::string_view kNames[] = {"ok", "warning", "error"};
  return nth(kNames, static_cast<int>(verdict));
}

Finding check_cores(const MachineLoad& load) {
  const int64_t cores = std::ssize(CoreSet::of_process());
  const std::string text = load.cores > cores
                               ? fmt::format("{} of {} cores are for this process (its affinity, or a container's)", cores, load.cores)
                               : fmt::format("{} for this process, which are all", cores);
  if (!load.exceeds_cores()) return {"cores", Verdict::Ok, text};
  return {"cores", Verdict::Warning, fmt::format("{}; {}", text, busy_text(load)), busy_help()};
}

Finding check_threads(int cores) {
  const char* given = std::getenv("OMP_NUM_THREADS");
  const int threads = at::get_num_threads();
  if (given == nullptr || *given == '\0') return {"threads", Verdict::Ok, fmt::format("{} of LibTorch in one rank, one a core", threads)};
  const std::string text = fmt::format("{} of LibTorch in each rank (OMP_NUM_THREADS={})", threads, given);
  if (threads <= cores) return {"threads", Verdict::Ok, text};
  return {"threads", Verdict::Warning, fmt::format("{}, and there {} {}", text, cores == 1 ? "is" : "are", counted(cores, "core")),
          "unset OMP_NUM_THREADS, or set it to the cores that a rank has: threads that share a core wait for one another"};
}

Finding check_memory() {
  const MemoryInfo memory = Device::cpu().memory_info();
  const std::string text = fmt::format("{} of {} are free", human_bytes(memory.free_bytes), human_bytes(memory.total_bytes));
  if (memory.free_bytes >= kGibibyte) return {"memory", Verdict::Ok, text};
  return {"memory", Verdict::Warning, text, "end other programs, or raise the limit of the container or the batch job"};
}

Finding check_shared_memory(const std::string& folder) {
  // What Open MPI takes for messages between a few ranks; what ranks exchange by themselves lies in memory without a name where the system
  // has that.
  constexpr int64_t kLeast = 64 * kMebibyte;
  const std::optional<Space> space = space_of(folder);
  if (!space || space->folder != fs::path(folder))
    return {folder, Verdict::Warning, "is not there",
            "mount it (`mount -t tmpfs tmpfs " + folder + "`): ranks of one host exchange data through it"};
  const std::string text = fmt::format("{} of {} are free", human_bytes(space->free), human_bytes(space->total));
  if (space->free >= kLeast) return {folder, Verdict::Ok, text};
  return {folder, Verdict::Warning, text,
          "enlarge it (`docker run --shm-size=1g`, `mount -o remount,size=1g " + folder + "`): ranks of one host exchange data through it"};
}

Finding check_locked_memory(int64_t wanted_bytes) {
  constexpr const char* kHelp =
      "raise it (`ulimit -l unlimited`, LimitMEMLOCK=infinity, `docker run --ulimit memlock=-1`): what is offloaded beyond it stays "
      "pageable, which is slower to read and write";
  rlimit limit{};
  if (::getrlimit(RLIMIT_MEMLOCK, &limit) != 0) return {"locked memory", Verdict::Warning, "its limit (memlock) cannot be read", kHelp};
  if (limit.rlim_cur == RLIM_INFINITY) return {"locked memory", Verdict::Ok, "no limit (memlock)"};
  const auto bytes = static_cast<int64_t>(limit.rlim_cur);
  const std::string text = fmt::format("at most {} in a process (memlock)", human_bytes(bytes));
  if (locks_beyond(bytes)) return {"locked memory", Verdict::Ok, text + ", which does not hold for this user"};
  if (wanted_bytes >= 0 && wanted_bytes <= bytes)
    return {"locked memory", Verdict::Ok,
            wanted_bytes == 0 ? text + "; the file locks none" : fmt::format("{}; the file locks {}", text, human_bytes(wanted_bytes))};
  if (wanted_bytes > bytes)
    return {"locked memory", Verdict::Warning, fmt::format("{}, and the file would lock {}", text, human_bytes(wanted_bytes)), kHelp};
  return bytes >= kGibibyte ? Finding{"locked memory", Verdict::Ok, text} : Finding{"locked memory", Verdict::Warning, text, kHelp};
}

Finding check_mpi(const std::string& program, double timeout_seconds) {
  constexpr const char* kHelp =
      "one rank needs no MPI; for more, launch/setup.sh installs Open MPI, and docs/launching.md says what its mpirun wants";
  CommandOptions options;
  options.timeout_seconds = timeout_seconds;
  // As --allow-run-as-root, --oversubscribe and --bind-to none.
  options.environment = {{"OMPI_ALLOW_RUN_AS_ROOT", "1"},
                         {"OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1"},
                         {"OMPI_MCA_rmaps_base_oversubscribe", "1"},
                         {"OMPI_MCA_hwloc_base_binding_policy", "none"},
                         {"PRTE_MCA_rmaps_default_mapping_policy", ":oversubscribe"},
                         {"OMP_NUM_THREADS", "1"}};
  const auto begin = std::chrono::steady_clock::now();
  CommandResult result;
  try {
    result = run_command({"mpirun", "-np", "2", program, "doctor-ranks"}, options);
  } catch (const RunError& error) {
    return {"MPI", Verdict::Warning, error.what(), kHelp};
  }
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  if (result.timed_out)
    return {"MPI", Verdict::Error, fmt::format("two ranks under mpirun have not ended after {:g} s", timeout_seconds),
            "try `mpirun -np 2 hostname`: where that hangs too, its network interfaces or the batch system keep it"};
  const nlohmann::json said = nlohmann::json::parse(last_line(result.out), nullptr, false);
  if (result.status != 0 || !said.is_object())
    return {"MPI", Verdict::Error,
            fmt::format("two ranks under mpirun end with status {}: {}", result.status,
                        result.err.empty() ? "they say nothing" : last_line(result.err)),
            kHelp};
  // 1 and 2 are what the ranks give.
  constexpr double kSum = 3;
  const std::string backend = said.value("backend", "");
  if (said.value("ranks", 0) != 2 || said.value("sum", 0.0) != kSum)
    return {"MPI", Verdict::Error,
            fmt::format("two ranks under mpirun see {} ranks and the sum {}, where 2 and {} are right", said.value("ranks", 0),
                        said.value("sum", 0.0), kSum),
            "mpirun is of another MPI than the program is linked with: call the one of Open MPI (`mpirun --version`)"};
  return {"MPI", Verdict::Ok,
          fmt::format("two ranks under mpirun add up in {:.1f} s{}{}", seconds, backend.empty() ? "" : ", by " + backend,
                      ::geteuid() == 0 ? "; root says mpirun --allow-run-as-root" : "")};
}

Finding check_libtorch() {
  return {"LibTorch", Verdict::Ok, fmt::format("{}, its kernels for {}", TORCH_VERSION, at::get_cpu_capability())};
}

Finding check_16bit() {
  constexpr int kTurns = 5;  // of which the quickest count: others may work here too
  double fp32 = HUGE_VAL, bf16 = HUGE_VAL;
  for (int turn = 0; turn < kTurns; ++turn) {
    fp32 = std::min(fp32, seconds_of_product(at::kFloat));
    bf16 = std::min(bf16, seconds_of_product(at::kBFloat16));
  }
  const double ratio = bf16 / fp32;
  const std::string text = fmt::format("a product takes {:.2f} times as long as in fp32", ratio);
  if (ratio < 1.5) return {"bf16", Verdict::Ok, text};
  return {"bf16", Verdict::Warning, text,
          "this processor has no instructions for it: bf16 saves memory here, and time on none of its products"};
}

Finding check_kernels() {
  const std::string target = host_optimizer_target();
  const bool is_scalar = target == "SCALAR" || target == "EMU128";
  return {"kernels", is_scalar ? Verdict::Warning : Verdict::Ok, fmt::format("noise, updates and casts run as {}", target),
          is_scalar ? "this processor has no AVX2, or hides it: the same results, many times slower" : ""};
}

Finding check_disk(const std::string& subject, const std::string& folder, int64_t wanted_bytes) {
  const std::optional<Space> space = space_of(folder);
  if (!space) return {subject, Verdict::Warning, fmt::format("{}: its free space cannot be read", folder), "name a folder that is there"};
  const std::string text =
      fmt::format("{} of {} are free in {}", human_bytes(space->free), human_bytes(space->total), space->folder.string());
  if (wanted_bytes > space->free)
    return {subject, Verdict::Error, fmt::format("{}, and the run puts {} there", text, human_bytes(wanted_bytes)),
            "free some, or name another folder"};
  if (wanted_bytes >= 0) return {subject, Verdict::Ok, fmt::format("{}, the run puts {} there", text, human_bytes(wanted_bytes))};
  return space->free >= kGibibyte ? Finding{subject, Verdict::Ok, text}
                                  : Finding{subject, Verdict::Warning, text, "free some, or run elsewhere"};
}

Finding check_gpu(bool is_asked_for) {
  const int gpus = Device::num_gpus();
  if (gpus > 0) {
    try {
      const Device first = Device::cuda(0);
      const MemoryInfo memory = first.memory_info();
      return {"GPU", Verdict::Ok,
              fmt::format("{} there; {}, {} of {} are free", gpus == 1 ? "1 is" : fmt::format("{} are", gpus), first.description(),
                          human_bytes(memory.free_bytes), human_bytes(memory.total_bytes))};
    } catch (const RunError& error) {
      return {"GPU", Verdict::Error, fmt::format("{} there, and the first cannot be used: {}", gpus, first_line_of(error.what())),
              "\"run.device\": \"cpu\" does without"};
    }
  }
  if (dlopen("libcuda.so.1", RTLD_LAZY | RTLD_LOCAL) == nullptr)
    return {"GPU", is_asked_for ? Verdict::Error : Verdict::Ok, "none: there is no driver (libcuda.so.1)",
            is_asked_for ? "\"run.device\": \"cpu\", or a machine with one" : ""};
  std::string why = "no GPU answers";
  try {
    Device::cuda(0);
  } catch (const std::exception& error) {
    why = first_line_of(error.what());
  }
  return {"GPU", is_asked_for ? Verdict::Error : Verdict::Warning, "there is a driver, and " + why,
          Device::has_cuda_library() ? "`nvidia-smi` tells whether the driver sees one"
                                     : "a build for GPUs needs CUDA 13 (launch/setup.sh --cuda, then build again)"};
}

Finding check_nccl() {
  void* const library = dlopen("libnccl.so.2", RTLD_LAZY | RTLD_LOCAL);
  const int gpus = Device::num_gpus();
  if (library == nullptr)
    return gpus > 1 ? Finding{"NCCL", Verdict::Warning, "libnccl.so.2 cannot be opened: what GPUs exchange passes through the host",
                              "put the NCCL of LibTorch for CUDA on LD_LIBRARY_PATH"}
                    : Finding{"NCCL", Verdict::Ok, "not there, and nothing here needs it"};
  auto* const version = reinterpret_cast<int (*)(int*)>(dlsym(library, "ncclGetVersion"));
  int number = 0;
  if (version == nullptr || version(&number) != 0)
    return {"NCCL", Verdict::Warning, "libnccl.so.2 does not tell its version", "put the NCCL of LibTorch for CUDA on LD_LIBRARY_PATH"};
  return {"NCCL", Verdict::Ok, fmt::format("{}.{}.{}", number / 10000, number / 100 % 100, number % 100)};
}

Finding check_figures(int ranks, int threads, const std::string& gpu) {
  const bool on_gpu = !gpu.empty();
  std::string why_unreadable;
  if (const std::optional<Machine> machine = measured_machine(ranks, threads, gpu, &why_unreadable))
    return {"measured", Verdict::Ok,
            fmt::format("{}, with {} of {}{}", machine->name, counted(machine->ranks_per_host, "rank"),
                        counted(machine->threads_per_rank, "thread"), machine->is_unsteady ? ", while something else ran" : "")};
  return {"measured", Verdict::Warning,
          fmt::format("the speed of {} is not known, so plans {}have no times{}", on_gpu ? gpu : "this machine", on_gpu ? "for it " : "",
                      why_unreadable.empty() ? "" : ": what was measured cannot be read, " + why_unreadable),
          as_called(fmt::format("`zerostep bench machine{}`, less than a minute", on_gpu ? " --device cuda" : ""))};
}

}  // namespace zerostep
