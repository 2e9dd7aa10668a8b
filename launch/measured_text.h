#pragma once
#include <string>

#include "runtime/timing/measure_machine.h"

namespace zerostep {

// Where figures of GPUs come from; of the processor all are "".
struct MeasuredOn {
  std::string devices;      // for people: "cuda:0 (NVIDIA H200)"
  std::string key;          // what they are kept under (gpu_of_figures())
  std::string collectives;  // how the ranks reach each other there: "nccl"
};
// A table of what was measured, with how far the repetitions lie apart, and where each figure is of the GPU and where of the host.
std::string text_of(const MeasuredMachine& measured, const MeasuredOn& on = {});

}  // namespace zerostep
