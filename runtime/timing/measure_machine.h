#pragma once
#include <functional>
#include <map>
#include <string>

#include "base/device.h"
#include "offload/flat_kernels.h"
#include "runtime/timing/machine.h"
#include "sharding/communicator.h"

namespace zerostep {

struct MeasureOptions {
  int ranks_per_host = 1, first_of_host = 0;        // first_of_host: the lowest rank on the caller's host
  double cores = 1;                                 // that fall to a rank
  double seconds = 25;                              // about, in all; below 20 fewer repetitions on less memory
  std::string scratch_folder;                       // on the disk to measure
  std::function<void(const std::string&)> begins =  // what is measured from now on
      [](const std::string&) {};
};

struct MeasuredMachine {
  Machine machine;
  std::map<std::string, double> spreads;  // CallMeter::spreads()
  std::string disk;                       // how files are read and written, or why they were not
};

// Measures what a plan is timed with, on every rank of `ranks` at once, with the threads that LibTorch has. Links between hosts are
// measured where there are several, those of files where the disk has room for a quarter of a gigabyte a rank, whose space is given back.
// Collective; blocks. Gives the same on every rank. RunError where a rank has no memory.
MeasuredMachine measure_machine(const Communicator& ranks, const MeasureOptions& options, const Device& device, const FlatKernels& kernels);

}  // namespace zerostep
