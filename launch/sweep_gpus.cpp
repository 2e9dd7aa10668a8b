#include "launch/sweep_gpus.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <nlohmann/json.hpp>
#include <numeric>

#include "base/device.h"
#include "base/error.h"
#include "base/file_descriptor.h"
#include "base/format.h"
#include "experiments/process/spawn.h"
#include "launch/device.h"

namespace zerostep {
namespace {

constexpr unsigned kPatience = 120;  // seconds for all GPUs to answer

struct GpusHere {
  int count = 0;
  std::vector<int64_t> free_bytes;  // of those that were asked
};

// In a process of its own: what these GPUs (none: all) answer, as JSON.
std::string answer_of_gpus(std::vector<int> gpus) {
  try {
    const int count = Device::num_gpus();
    if (gpus.empty()) {
      gpus.resize(static_cast<size_t>(count));
      std::iota(gpus.begin(), gpus.end(), 0);
    }
    nlohmann::json free = nlohmann::json::array();
    for (int gpu : gpus)
      if (gpu < count) free.push_back(Device::cuda(gpu).memory_info().free_bytes);
    return nlohmann::json{{"count", count}, {"free_bytes", free}}.dump();
  } catch (const std::exception& error) {
    return nlohmann::json{{"error", error.what()}}.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  }
}

std::string read_all(int file) {
  std::string out;
  std::array<char, 4096> part{};
  for (;;) {
    const ssize_t count = ::read(file, part.data(), part.size());
    if (count > 0) out.append(part.data(), static_cast<size_t>(count));
    if (count == 0 || (count < 0 && errno != EINTR)) return out;
  }
}

// What asks for a GPU's memory takes some of it, for CUDA itself, until its process ends; so does every run. A process that ends at once
// asks therefore: what it finds free is what a run will find. CUDA does not answer in a fork of a process that has called it.
GpusHere ask_gpus(const std::vector<int>& gpus) {
  constexpr const char* kHelp = "`zerostep doctor` looks at them; run.device \"cpu\" runs on the processor";
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) fail_run("cannot make a pipe: {}", std::strerror(errno));
  const FileDescriptor reads(ends[0]);
  FileDescriptor writes(ends[1]);
  const pid_t child = ::fork();
  if (child < 0) fail_run("cannot start a process that asks GPUs for their memory: {}", std::strerror(errno));
  if (child == 0) {
    ::alarm(kPatience);
    const std::string answer = answer_of_gpus(gpus);
    const bool is_written = ::write(writes.get(), answer.data(), answer.size()) == static_cast<ssize_t>(answer.size());
    ::_exit(is_written ? 0 : 1);
  }
  writes = FileDescriptor();
  const std::string text = read_all(reads.get());
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  const nlohmann::json answer = nlohmann::json::parse(text, nullptr, false);
  if (!answer.is_object())
    fail_run("the GPUs here do not tell their free memory: the process that asks them has ended with status {}{}. {}", exit_status(status),
             exit_status(status) == 128 + SIGALRM ? fmt::format(", after {} s without an answer", kPatience) : "", kHelp);
  if (answer.contains("error")) fail_run("the GPUs here do not tell their free memory: {}. {}", answer["error"].get<std::string>(), kHelp);
  return {answer["count"].get<int>(), answer["free_bytes"].get<std::vector<int64_t>>()};
}

}  // namespace

std::vector<int64_t> settle_gpus(SweepResources& resources, const std::vector<SweepPoint>& points) {
  if (resources.uses_slurm) return {};
  if (resources.gpus.empty()) {
    const auto may_use_gpu = [](const SweepPoint& point) { return point.loaded.config.run.device != "cpu"; };
    if (std::none_of(points.begin(), points.end(), may_use_gpu)) return {};
    const GpusHere here = ask_gpus({});
    resources.gpus.resize(static_cast<size_t>(here.count));
    std::iota(resources.gpus.begin(), resources.gpus.end(), 0);
    resources.has_all_gpus = true;
    return here.free_bytes;
  }
  const GpusHere here = ask_gpus(resources.gpus);
  for (int gpu : resources.gpus)
    if (gpu >= here.count)
      fail_input("GPU {} is asked for (--gpus, resources.gpus), and {} here; they count from 0", gpu,
                 here.count == 0   ? "no GPU answers"
                 : here.count == 1 ? "1 GPU is"
                                   : fmt::format("{} GPUs are", here.count));
  return here.free_bytes;
}

void refuse_missing_gpus(const SweepResources& resources, const std::vector<SweepPoint>& points, PointErrors& errors) {
  if (resources.uses_slurm || !resources.gpus.empty()) return;
  for (const SweepPoint& point : points)
    if (point.loaded.config.run.device == "cuda")
      errors.emplace_back(point.name,
                          "run.device is \"cuda\", and no GPU answers here: `zerostep doctor` looks for them; \"auto\" or \"cpu\" runs on "
                          "the processor");
}

MemoryLimit gpu_limit(const MachineShares& shares, int ranks) {
  MemoryLimit out{shares.most_gpu_bytes(), ""};
  for (size_t i = 0; i < shares.count() && out.source.empty(); ++i) {
    const MachineShare& share = shares.at(i);
    if (share.gpu_bytes != out.device_bytes) continue;
    const size_t gpus = share.gpus.size();
    out.source = fmt::format("free memory of {}{}{}", gpus > 1 ? "each of " : "", share.device(),
                             static_cast<size_t>(ranks) > gpus ? fmt::format(" for each of {} ranks", ranks) : "");
  }
  return out;
}

}  // namespace zerostep
