#pragma once
#include <string>

namespace zerostep {

// Takes a file lock (LOCK_EX or LOCK_SH) without waiting. 0, or errno; EWOULDBLOCK: another process has it.
int try_lock(int file, int kind);
// The same, and waits for whoever has it, through signals. 0, or errno.
int wait_for_lock(int file, int kind);
// Whether an open file is the one that lies at a path: between open() and the lock its owner before may have renamed or removed it.
bool is_file_at(const std::string& path, int file);

}  // namespace zerostep
