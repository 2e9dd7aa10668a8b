#include "offload/scratch_folder.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <map>
#include <memory>
#include <new>
#include <optional>
#include <regex>
#include <system_error>
#include <thread>
#include <utility>

#include "base/disk_space.h"
#include "base/error.h"
#include "base/file_lock.h"
#include "base/format.h"
#include "base/host_name.h"
#include "offload/disk.h"

namespace zerostep {
namespace fs = std::filesystem;
namespace {

// The folder, or what is there of the way to it.
fs::path existing_part(const std::string& folder) {
  std::error_code error;
  fs::path path = fs::absolute(folder, error);
  while (!fs::exists(path, error) && path.has_relative_path()) path = path.parent_path();
  return path;
}

// A file system that says that it has no bytes at all does not count them.
int64_t free_bytes(const fs::path& folder) {
  const auto space = disk_space(folder.string());
  return space && space->total > 0 ? space->free : INT64_MAX;
}

// The disk that a folder is on; nothing where the system does not say.
std::optional<dev_t> disk_of(const fs::path& folder) {
  struct stat status = {};
  if (::stat(folder.c_str(), &status) != 0) return std::nullopt;
  return status.st_dev;
}

// Whose files a process may remove: machines may share a folder.
std::string prefix() { return fmt::format("zerostep_scratch_{}_", host_name()); }

// The process whose file has a name, of those that open_new_file() makes; 0: none's.
pid_t process_of(const std::string& name) {
  if (!name.starts_with(prefix())) return 0;
  static const std::regex form("([0-9]{1,9})_[0-9]+_[A-Za-z0-9]{6}");
  std::smatch parts;
  const std::string rest = name.substr(prefix().size());
  return std::regex_match(rest, parts, form) ? static_cast<pid_t>(std::stol(parts[1])) : 0;
}

// It is about to take the names of its files away by itself.
bool is_alive(pid_t process) { return ::kill(process, 0) == 0 || errno == EPERM; }

void make_folder(const ScratchDemand& demand, NewFolders& folders) {
  if (const std::string why = folders.make(demand.folder); !why.empty())
    fail_input("{}: {} {}. Name a folder, there or to be made, on the disk that is to hold what rests in files", demand.key, demand.folder,
               why);
}

// A new file of this process; path becomes its name.
FileDescriptor open_new_file(const ScratchDemand& demand, int rank, std::string& path) {
  path = fmt::format("{}/{}{}_{}_XXXXXX", demand.folder, prefix(), ::getpid(), rank);
  FileDescriptor file(::mkostemp(path.data(), O_CLOEXEC));
  if (!file.is_open())
    fail_input("{}: no file can be made in {}: {}. Name a folder that this user may write into", demand.key, demand.folder,
               disk_failure(errno));
  return file;
}

void require_permitted_size(const ScratchDemand& demand) {
  rlimit limit = {};
  if (::getrlimit(RLIMIT_FSIZE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY || demand.num_bytes <= static_cast<int64_t>(limit.rlim_cur))
    return;
  fail_input("{}: a file of {} ({} bytes) is needed in {}, and this process may make files of at most {} bytes: raise that (`ulimit -f`)",
             demand.key, human_bytes(demand.num_bytes), demand.num_bytes, demand.folder, limit.rlim_cur);
}

// The ranks of a host come here at one time, one after the other: the first removes all there is and tells how many, whichever it is. Where
// the file system has no such locks, or somebody holds this one, they share the files, and each tells of its own.
void remove_what_the_dead_left(const std::string& folder, const ScratchFile::Warn& warn, const ScratchFile::Warn& warn_of_own) {
  const FileDescriptor turn(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  constexpr int kMostTries = 200;  // of 10 ms: one who does not end keeps nobody waiting
  for (int tries = 0; turn.is_open() && tries < kMostTries && try_lock(turn.get(), LOCK_EX) == EWOULDBLOCK; ++tries)
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  std::error_code error;
  int count = 0;
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    const pid_t process = process_of(entry.path().filename().string());
    if (process == 0 || is_alive(process) || entry.symlink_status(error).type() != fs::file_type::regular) continue;
    if (fs::remove(entry.path(), error))
      ++count;
    else if (error)
      warn(fmt::format("{} is left of a run that has ended and cannot be removed: {}", entry.path().string(), error.message()));
  }
  if (count > 0)
    warn_of_own(fmt::format("{} scratch file{} of runs that were killed {} removed from {}", count, count == 1 ? "" : "s",
                            count == 1 ? "was" : "were", folder));
}

}  // namespace

std::string what_helps_a_disk(const std::string& key) {
  return fmt::format("Look at that disk and its file system (`dmesg`, `df`), or set {} to a folder on another", key);
}

std::vector<DiskDemand> demands_of_disks(std::span<const ScratchDemand> demands, int ranks) {
  std::map<dev_t, DiskDemand> disks;
  for (const ScratchDemand& demand : demands) {
    const fs::path there = existing_part(demand.folder);
    const std::optional<dev_t> number = disk_of(there);
    if (!number) continue;
    DiskDemand& disk = disks[*number];
    if (disk.folder.empty()) disk = {*number, demand.key, demand.folder, 0, free_bytes(there)};
    disk.num_bytes += demand.num_bytes * ranks;
  }
  std::vector<DiskDemand> out;
  for (const auto& [number, disk] : disks) out.push_back(disk);
  return out;
}

std::string lack_of_room(std::span<const ScratchDemand> demands, int ranks) {
  return lack_of_room(demands_of_disks(demands, ranks), ranks);
}

std::string lack_of_room(std::span<const DiskDemand> demands, int ranks) {
  std::string out;
  for (const DiskDemand& disk : demands)
    if (disk.num_bytes > disk.free_bytes)
      out += fmt::format("{}{}: no space in {}: {} rank{} of this host need{} {} ({} bytes) on that disk, {} are free: {} are missing",
                         out.empty() ? "" : "; ", disk.key, disk.folder, ranks, ranks == 1 ? "" : "s", ranks == 1 ? "s" : "",
                         human_bytes(disk.num_bytes), disk.num_bytes, human_bytes(disk.free_bytes),
                         human_bytes(disk.num_bytes - disk.free_bytes));
  if (!out.empty()) out += ". Make space, or name a folder on another disk";
  return out;
}

int64_t free_room(std::span<const std::string> folders) {
  struct Disk {
    int64_t num_folders = 0, free = 0;
  };
  std::map<dev_t, Disk> disks;
  for (const std::string& folder : folders) {
    const fs::path there = existing_part(folder);
    const std::optional<dev_t> number = disk_of(there);
    if (!number) continue;
    Disk& disk = disks[*number];
    ++disk.num_folders, disk.free = free_bytes(there);
  }
  const auto total = static_cast<int64_t>(folders.size());
  if (total == 0) return 0;
  int64_t least = INT64_MAX;  // of one folder
  for (const auto& [number, disk] : disks)
    if (disk.free < INT64_MAX) least = std::min(least, disk.free / disk.num_folders);
  return least == INT64_MAX ? least : total * least;
}

NewFolders try_scratch_folders(std::span<const ScratchDemand> demands) {
  NewFolders folders;
  for (const ScratchDemand& demand : demands) {
    make_folder(demand, folders);
    std::string path;
    open_new_file(demand, 0, path);
    ::unlink(path.c_str());
    require_permitted_size(demand);
  }
  return folders;
}

NewFolders require_scratch_folders(std::span<const ScratchDemand> demands, int ranks) {
  NewFolders folders = try_scratch_folders(demands);
  if (const std::string lack = lack_of_room(demands, ranks); !lack.empty()) throw InputError(lack);
  return folders;
}

ScratchFile::ScratchFile(const ScratchDemand& demand, int rank, const Warn& warn, const Warn& warn_of_own) {
  NewFolders folders;
  make_folder(demand, folders);
  folders.keep();
  remove_what_the_dead_left(demand.folder, warn, warn_of_own);
  descriptor_ = open_new_file(demand, rank, file_.path);
  file_.descriptor = descriptor_.get();
  has_name_ = ::unlink(file_.path.c_str()) != 0 && errno != ENOENT;
  try {
    take_space(demand, rank);
    go_direct(demand, rank, warn);
  } catch (...) {
    remove_name();
    throw;
  }
}

void ScratchFile::remove_name() {
  if (std::exchange(has_name_, false)) ::unlink(file_.path.c_str());
}

void ScratchFile::take_space(const ScratchDemand& demand, int rank) const {
  const auto fail_full = [&](int64_t free, int error) {
    fail_run("[file tier] no space in {}: rank {} needs {} ({} bytes), {} are free ({}). Make space or set another {}", demand.folder, rank,
             human_bytes(demand.num_bytes), demand.num_bytes, human_bytes(free), std::strerror(error), demand.key);
  };
  require_permitted_size(demand);
  const int64_t free = free_bytes(demand.folder);
  if (demand.num_bytes > free) fail_full(free, ENOSPC);
  int error = 0;
  do error = demand.num_bytes == 0 ? 0 : ::posix_fallocate(file_.descriptor, 0, demand.num_bytes);
  while (error == EINTR);
  if (error == ENOSPC || error == EDQUOT || error == EFBIG) fail_full(free, error);
  if (error != 0)
    fail_run("[file tier] rank {}: cannot take {} bytes for {}: {}. {}", rank, demand.num_bytes, file_.path, std::strerror(error),
             what_helps_a_disk(demand.key));
}

// Some file systems refuse direct access when it is asked for, others when it is tried.
void ScratchFile::go_direct(const ScratchDemand& demand, int rank, const Warn& warn) {
  const int flags = ::fcntl(file_.descriptor, F_GETFL);
  if (demand.num_bytes == 0 || flags < 0) return;
  int error = ::fcntl(file_.descriptor, F_SETFL, flags | O_DIRECT) != 0 ? errno : 0;
  if (error == 0) {
    const std::unique_ptr<void, decltype(&std::free)> zeros(std::aligned_alloc(kDirectAlignment, kDirectAlignment), &std::free);
    if (!zeros) throw std::bad_alloc();
    std::memset(zeros.get(), 0, kDirectAlignment);
    file_.is_direct = ::pwrite(file_.descriptor, zeros.get(), kDirectAlignment, 0) >= 0;
    if (file_.is_direct) return;
    error = errno;
    ::fcntl(file_.descriptor, F_SETFL, flags);
  }
  if (error != EINVAL)
    fail_run("[file tier] rank {}: cannot write {}: {}. {}", rank, file_.path, disk_failure(error), what_helps_a_disk(demand.key));
  warn(fmt::format(
      "the file system of {} has no direct access (O_DIRECT): what rests there goes through the page cache, slower and in memory besides",
      demand.folder));
}

}  // namespace zerostep
