#pragma once
#include <cstdint>
#include <string>
#include <string_view>

#include "base/machine_load.h"

namespace zerostep {

enum class Verdict : uint8_t { Ok, Warning, Error };
std::string_view name_of(Verdict verdict);  // "ok", "warning", "error"

// What was looked at, what was found there, and what helps.
struct Finding {
  std::string subject;
  Verdict verdict = Verdict::Ok;
  std::string text, help = {};  // help "": nothing has to, or the text says it
};

// Each looks at one thing of this machine, and throws nothing.
Finding check_cores(const MachineLoad& load = machine_load());
// Threads of LibTorch in a rank that has so many cores.
Finding check_threads(int cores);
Finding check_memory();
Finding check_shared_memory(const std::string& folder = "/dev/shm");
// What may be locked (RLIMIT_MEMLOCK). `wanted_bytes`: what a run on this host locks in all; below 0: no run is known.
Finding check_locked_memory(int64_t wanted_bytes = -1);
// The sum that two ranks of `program`, the path of this one, make under mpirun within so many seconds.
Finding check_mpi(const std::string& program, double timeout_seconds);
Finding check_libtorch();
// How products of bf16 compare with those of fp32, measured in less than a second.
Finding check_16bit();
Finding check_kernels();
// The free space of the disk of a folder, which need not be there yet, against what a run puts there; below 0: no run is known.
Finding check_disk(const std::string& subject, const std::string& folder, int64_t wanted_bytes = -1);
// `is_asked_for`: a run wants one.
Finding check_gpu(bool is_asked_for = false);
Finding check_nccl();
// Whether `bench machine` has measured this machine: its processor, or the GPU whose figures are kept under this name.
Finding check_figures(int ranks, int threads, const std::string& gpu = "");

}  // namespace zerostep
