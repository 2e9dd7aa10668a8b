#pragma once
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "base/device.h"
#include "offload/flat_kernels.h"
#include "runtime/timing/machine.h"
#include "sharding/communicator.h"

namespace zerostep {

// Of a rank that has a core of its own, about: everything once or twice. Ranks that share a core need so much each.
constexpr double kLeastMeasureSeconds = 0.5;

struct MeasureOptions {
  int ranks_per_host = 1, first_of_host = 0;  // first_of_host: the lowest rank on the caller's host
  int ranks_of_device = 1;                    // of those of a host, that share a GPU
  double cores = 1;                           // that fall to a rank
  double seconds = 25;                        // at most, about; below 20 fewer repetitions on less memory
  std::string scratch_folder;                 // on the disk to measure
  // What is measured from now on, and about how many seconds all that is left takes.
  std::function<void(const std::string&, double)> begins = [](const std::string&, double) {};
};

// What MeasuredMachine::spreads has the spread of.
namespace figures {
// With the type: figure_of().
inline constexpr const char *kProducts = "products", *kOperations = "other operations", *kAttention = "attention";
inline constexpr const char *kOperation = "an operation of LibTorch", *kMemory = "memory", *kNoise = "noise", *kUpdates = "updates",
                            *kFileReads = "file reads", *kFileWrites = "file writes", *kGathersInHost = "gathers in a host",
                            *kReductionsInHost = "reductions in a host", *kGathersBetweenHosts = "gathers between hosts",
                            *kReductionsBetweenHosts = "reductions between hosts", *kAgreements = "agreements",
                            *kCopiesToDevice = "copies to the device", *kCopiesToHost = "copies to the host",
                            *kHostUpdates = "updates on the host";
}  // namespace figures
// "attention, bf16".
std::string figure_of(const char* figure, DType type);

struct MeasuredMachine {
  Machine machine;
  std::map<std::string, double> spreads;  // CallMeter::take_spreads(), by the names in figures
  std::string disk;                       // how files are read and written, or why they were not
  std::string copies;                     // of a GPU: through what memory of the host they went
  std::vector<std::string> disturbed;     // what was measured while something else ran; where there is any, the machine is unsteady
};

// Measures what a plan is timed with, on every rank of `ranks` at once, with the threads that LibTorch has and on a device as a run of
// these ranks uses it: `ranks` reach each other's memory there. Work of a GPU is timed by marks on its streams. Links between hosts are
// measured where there are several, those of files where the disk has room for a quarter of a gigabyte a rank, whose space is given back.
// What was measured while something else ran is measured again while time is left (measured_parts.h).
// Collective; blocks. Gives the same on every rank. RunError where a rank has no memory.
MeasuredMachine measure_machine(const Communicator& ranks, const MeasureOptions& options, const Device& device, const FlatKernels& kernels);

}  // namespace zerostep
