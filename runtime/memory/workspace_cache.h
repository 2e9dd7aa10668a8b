#pragma once
#include <string>

#include "runtime/memory/workspace.h"

namespace zerostep {

// What a measured workspace depends on beside the model and the shape: the processor, what the libraries may use of it, the number of
// threads, LibTorch and the libraries in it, and this program; on a GPU its model and the workspace that cuBLAS has.
std::string machine_key(const Device& device);

// The entry of a key in the file, if it is there as a whole with so many units. A line that cannot be read is another process's unfinished
// write.
bool recall(const std::string& file, const std::string& key, size_t num_units, Workspaces& out);

// Appends a line to the file, which other processes' lines stand beside; a file of some megabytes is begun anew. A file that cannot be
// written is done without.
void remember(const std::string& file, const std::string& key, const Workspaces& found);

}  // namespace zerostep
