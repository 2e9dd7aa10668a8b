#include "experiments/housekeeping/archive.h"

#include <fcntl.h>
#include <unistd.h>
#include <xxhash.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <sstream>
#include <string_view>

#include "base/disk_space.h"
#include "base/error.h"
#include "base/file_descriptor.h"
#include "base/format.h"
#include "base/mapped_file.h"
#include "base/unfinished_file.h"
#include "experiments/process/run_command.h"
#include "offload/disk.h"
#include "runtime/checkpoint/manifest.h"
#include "runtime/report/folder_lock.h"
#include "runtime/report/output_file.h"

namespace zerostep {
namespace fs = std::filesystem;
namespace {

// A line a file. As the coreutils write it, a backslash begins one whose path has line ends or backslashes, which stand there escaped.
std::string checksum_text(const std::vector<ArchivedFile>& files) {
  std::string text;
  for (const ArchivedFile& file : files) {
    std::string path;
    for (const char c : file.path) path += c == '\n' ? "\\n" : c == '\\' ? "\\\\" : std::string(1, c);
    text += fmt::format("{}{}  {}\n", path == file.path ? "" : "\\", file.checksum, path);
  }
  return text;
}

void require_space(const fs::path& folder, int64_t bytes) {
  const auto space = disk_space(folder.string());
  if (space && bytes > space->free)
    fail_input("{}: an archive of {} does not fit into its {} of free space: name another folder with --out", folder.string(),
               human_bytes(bytes), human_bytes(space->free));
}

// What an archive that was unpacked has left may be made anew; a file of the user's own may not.
void require_checksums(const fs::path& file) {
  const MappedFile content(file.string());
  std::istringstream lines{std::string(content.text())};
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with('\\')) line.erase(0, 1);
    if (line.size() < 35 || line.substr(32, 2) != "  " || line.find_first_not_of("0123456789abcdef") < 32)
      fail_input("{} is no list of checksums, and an archive writes one of that name: give the file another name", file.string());
  }
}

// On the disk, and no longer in the system's memory, as far as the system lets go of it: what is read next comes from the disk.
void flush(const fs::path& path) {
  const FileDescriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file.is_open() || ::fsync(file.get()) != 0) fail_run("cannot write {}: {}", path.string(), disk_failure(errno));
  ::posix_fadvise(file.get(), 0, 0, POSIX_FADV_DONTNEED);
}

// A folder that goes with the object.
struct WorkFolder {
  fs::path path;
  explicit WorkFolder(fs::path where) : path(std::move(where)) {
    remove();
    fs::create_directories(path);
  }
  ~WorkFolder() { remove(); }
  WorkFolder(const WorkFolder&) = delete;
  WorkFolder& operator=(const WorkFolder&) = delete;

 private:
  void remove() const {
    std::error_code ignored;
    fs::remove_all(path, ignored);
  }
};

// Takes the contents of files that follow one another, and compares each with its checksum.
class Comparison {
 public:
  Comparison(const fs::path& archive, const std::vector<ArchivedFile>& files)
      : archive_(archive), files_(files), state_(XXH3_createState()) {
    if (!state_) throw std::bad_alloc();
    XXH3_128bits_reset(state_.get());
    finish_files();
  }
  void take(std::string_view bytes) {
    while (!bytes.empty()) {
      if (at_ == files_.size()) fail_run("{}: holds more than the {} files of the run", archive_.string(), files_.size());
      const size_t count = std::min(bytes.size(), static_cast<size_t>(files_[at_].bytes - taken_));
      XXH3_128bits_update(state_.get(), bytes.data(), count);
      taken_ += static_cast<int64_t>(count);
      bytes.remove_prefix(count);
      finish_files();
    }
  }
  void finish() const {
    if (at_ < files_.size()) fail_run("{}: ends within {}, or before it", archive_.string(), files_[at_].path);
  }

 private:
  void finish_files() {
    for (; at_ < files_.size() && taken_ == files_[at_].bytes; ++at_, taken_ = 0) {
      const XXH128_hash_t hash = XXH3_128bits_digest(state_.get());
      if (const std::string found = fmt::format("{:016x}{:016x}", hash.high64, hash.low64); found != files_[at_].checksum)
        fail_run("{}: {} has the checksum {} in it, and {} in the run's folder: the file has changed meanwhile, or the disk is faulty",
                 archive_.string(), files_[at_].path, found, files_[at_].checksum);
      XXH3_128bits_reset(state_.get());
    }
  }

  struct Free {
    void operator()(XXH3_state_t* state) const { XXH3_freeState(state); }
  };
  const fs::path& archive_;
  const std::vector<ArchivedFile>& files_;
  std::unique_ptr<XXH3_state_t, Free> state_;
  size_t at_ = 0;
  int64_t taken_ = 0;
};

}  // namespace

ArchiveContents contents_to_archive(const fs::path& run, bool with_checkpoints) {
  ArchiveContents out;
  for (auto at = fs::recursive_directory_iterator(run); at != fs::recursive_directory_iterator(); ++at) {
    const std::string path = at->path().lexically_relative(run).string();
    if (path == FolderLock::kFile) continue;
    if (path == kChecksumFile) {
      require_checksums(at->path());
      continue;
    }
    if (path == "checkpoints" && !with_checkpoints) {
      at.disable_recursion_pending();
      continue;
    }
    const fs::file_type type = at->symlink_status().type();
    if (type == fs::file_type::regular) out.files.push_back({path, static_cast<int64_t>(at->file_size())});
    if (type == fs::file_type::symlink) out.links.emplace_back(path, fs::read_symlink(at->path()).string());
    if (type == fs::file_type::regular || type == fs::file_type::directory || type == fs::file_type::symlink)
      out.entries.push_back(path);
    else
      out.left_out.push_back(path);
  }
  std::sort(out.left_out.begin(), out.left_out.end());
  std::sort(out.entries.begin(), out.entries.end());
  std::sort(out.files.begin(), out.files.end(), [](const ArchivedFile& a, const ArchivedFile& b) { return a.path < b.path; });
  std::sort(out.links.begin(), out.links.end());
  return out;
}

fs::path default_archive(const fs::path& run) { return run.parent_path() / (run.filename().string() + ".tar"); }

void check_is_new(const fs::path& archive) {
  if (fs::exists(fs::symlink_status(archive)))
    fail_input("{} is there already: an archive is never written over. Move it, or name another folder with --out", archive.string());
}

void check_lies_outside(const fs::path& archive, const fs::path& run) {
  const fs::path from_run = fs::weakly_canonical(archive).lexically_relative(fs::weakly_canonical(run));
  if (!from_run.empty() && *from_run.begin() != "..")
    fail_input("{} lies in the folder that is to be packed: name another one with --out", archive.string());
}

void verify_archive(const fs::path& archive, const std::vector<ArchivedFile>& files) {
  Comparison comparison(archive, files);
  const CommandResult result = run_command({"tar", "--extract", "--to-stdout", "--file", archive.string(), "--force-local"},
                                           {.on_output = [&](std::string_view bytes) { comparison.take(bytes); }});
  if (result.status != 0)
    fail_run("{}: cannot be read back: {} (tar's exit status is {})", archive.string(), last_line(result.err), result.status);
  comparison.finish();
}

ArchiveContents archive_run(const fs::path& given, const fs::path& archive, bool with_checkpoints) {
  const fs::path run = fs::weakly_canonical(given), name = run.filename(), target = fs::absolute(archive);
  check_is_new(target);
  check_lies_outside(target, run);
  ArchiveContents contents = contents_to_archive(run, with_checkpoints);
  std::vector<ArchivedFile>& files = contents.files;
  int64_t bytes = 0;
  for (const ArchivedFile& file : files) bytes += file.bytes;
  fs::create_directories(target.parent_path());
  require_space(target.parent_path(), bytes);
  for (ArchivedFile& file : files) {
    const MappedFile content((run / file.path).string());
    file.bytes = static_cast<int64_t>(content.num_bytes());
    file.checksum = checksum_of(content.bytes().data(), content.num_bytes());
  }
  const fs::path beside = target.parent_path() / ("." + target.filename().string() + ".partial");
  UnfinishedFile unfinished(target.string(), beside.string() + ".tar");
  check_is_new(target);  // another process may have made it since
  const WorkFolder work(beside);
  const std::string checksums = checksum_text(files);
  fs::create_directories(work.path / name);
  write_file((work.path / name / kChecksumFile).string(), checksums);
  // Names end with a zero byte, so that any name is one.
  std::string list = name.string() + '\0';
  for (const std::string& entry : contents.entries) list += (name / entry).string() + '\0';
  write_file((work.path / "list").string(), list);
  const fs::path partial = unfinished.path();
  const CommandResult result =
      run_command({"tar", "--create", "--file", partial.string(), "--force-local", "--format=gnu", "--no-recursion", "--hard-dereference",
                   "--null", "--directory", run.parent_path().string(), "--files-from", (work.path / "list").string(), "--directory",
                   work.path.string(), "--add-file", (name / kChecksumFile).string()});
  if (result.status != 0) fail_run("{}: tar ends with exit status {}: {}", target.string(), result.status, last_line(result.err));
  flush(partial);
  std::vector<ArchivedFile> expected = files;
  expected.push_back({kChecksumFile, std::ssize(checksums), checksum_of(checksums.data(), checksums.size())});
  verify_archive(partial, expected);
  unfinished.publish();
  sync_directory(Disk::real(), target.parent_path().string());
  return contents;
}

}  // namespace zerostep
