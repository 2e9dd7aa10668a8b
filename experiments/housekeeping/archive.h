#pragma once
#include <cstdint>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

namespace zerostep {

// A file of an archive: its path below the run's folder, its bytes and their checksum (Manifest::File::checksum, which `xxh128sum` prints).
struct ArchivedFile {
  std::string path;
  int64_t bytes = 0;
  std::string checksum = {};
};

// What an archive of a run's folder holds but its lock, an earlier file of checksums and, where these are to stay out, its checkpoints.
// All by their paths below the folder, in the order of these.
struct ArchiveContents {
  std::vector<std::string> entries;  // files, folders and links
  std::vector<ArchivedFile> files;   // the regular ones
  // With what they name. They are packed as links: what they name is neither packed nor removed.
  std::vector<std::pair<std::string, std::string>> links;
  std::vector<std::string> left_out;  // neither files nor folders nor links: pipes, sockets
};
// What it would hold, without checksums. InputError where a file of the run has the name kChecksumFile and is no list of checksums.
ArchiveContents contents_to_archive(const std::filesystem::path& run, bool with_checkpoints);

// The archive of a run's folder where no other place is asked for: beside it.
std::filesystem::path default_archive(const std::filesystem::path& run);

inline constexpr const char* kChecksumFile = "checksums.xxh128";

// InputError where something lies at an archive's path already: it is never written over.
void check_is_new(const std::filesystem::path& archive);
// InputError where an archive would lie in a folder that is to be packed.
void check_lies_outside(const std::filesystem::path& archive, const std::filesystem::path& run);

// Packs a run's folder, links and empty folders too, as the tar file `archive` by the system's tar, under its own name and with
// kChecksumFile ("CHECKSUM  PATH", a line a file) in it. The archive appears under its name when it is on the disk, and every byte of it
// was read back through tar and found to have the checksum that the folder's file had. Gives what it holds, with checksums. InputError:
// `archive` is there already or lies in the folder, or the disk has no space for it. RunError: tar fails, or what is read back is not what
// the folder holds; nothing is left then.
ArchiveContents archive_run(const std::filesystem::path& run, const std::filesystem::path& archive, bool with_checkpoints);

// Reads an archive through tar and compares it with what it should hold, in this order. RunError naming what differs.
void verify_archive(const std::filesystem::path& archive, const std::vector<ArchivedFile>& files);

}  // namespace zerostep
