#pragma once
#include <string>

namespace zerostep {

// How much of the whole machine, not of one process or container, is wanted.
struct MachineLoad {
  double wanted = 0;  // cores that programs held or waited for, in the mean of the last minute; 0: not known
  long cores = 1;     // that there are
  bool exceeds_cores() const { return wanted > static_cast<double>(cores); }
};
MachineLoad machine_load();

// For messages, where the load exceeds the cores: "the load of the machine is 7.3 on 2 cores, so that other programs hold cores".
std::string busy_text(const MachineLoad& load);
// What helps a run there, as a part of a sentence.
const char* busy_help();

}  // namespace zerostep
