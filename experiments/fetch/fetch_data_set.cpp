#include "experiments/fetch/fetch_data_set.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/file_descriptor.h"
#include "base/format.h"
#include "experiments/fetch/count_rows.h"
#include "experiments/fetch/fetch_file.h"
#include "experiments/fetch/fetched_record.h"
#include "experiments/fetch/part_file.h"

namespace zerostep {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr int64_t kRoomLeft = int64_t{64} << 20;  // that a disk keeps

struct PlacedFile {
  HubFile file;
  std::string path;
};

// The files of the hub that belong to the data set, in the order in which readers take them.
std::vector<PlacedFile> list_placed(Hub& hub, const HubSource& source, const std::string& commit) {
  std::vector<PlacedFile> out;
  const HubSubject subject{source.repository(), source.revision(), source.folder_of_hub()};
  for (HubFile& file : hub.files_below(subject, commit, source.folder_of_hub()))
    if (auto path = source.place_of(file.path)) out.push_back({std::move(file), std::move(*path)});
  if (out.empty())
    fail_run(
        "data set '{}' at revision '{}' has no file {}: see {}/datasets/{}/tree/{} for what there is, and correct \"source\" in the "
        "catalogue",
        source.repository(), source.revision(), source.patterns(), hub.settings().endpoint, source.repository(), source.revision());
  std::sort(out.begin(), out.end(), [](const PlacedFile& a, const PlacedFile& b) { return a.path < b.path; });
  return out;
}

void make_folder(const std::string& folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error || !fs::is_directory(folder, error))
    fail_run(
        "cannot make the folder '{}': {}; $XDG_CACHE_HOME names another place for the program's own data sets, and --catalogue (in runs "
        "data.catalogue) a copy of the catalogue, below whose folder they lie",
        folder, error ? error.message() : "a file of that name is there");
}

// Held until destruction, or by the end of the process.
FileDescriptor lock_folder(const std::string& folder, const std::string& name, const std::function<void(const std::string&)>& say) {
  const std::string path = folder + "/.fetch.lock";
  FileDescriptor lock(::open(path.c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0644));
  if (!lock.is_open()) fail_run("cannot make '{}': {}", path, std::strerror(errno));
  if (::flock(lock.get(), LOCK_EX | LOCK_NB) == 0) return lock;
  if (errno == EWOULDBLOCK) say(fmt::format("{} is being fetched by another process: waiting for its end", name));
  while (::flock(lock.get(), LOCK_EX) != 0)
    if (errno != EINTR) fail_run("cannot lock '{}': {}", path, std::strerror(errno));
  return lock;
}

int64_t size_of(const std::string& path) {
  struct stat status {};
  return ::stat(path.c_str(), &status) == 0 ? static_cast<int64_t>(status.st_size) : 0;
}

// Fetches what is not here, and remembers what is.
class DataSetFetch {
 public:
  DataSetFetch(const HubSource& source, const FetchRequest& request, Hub& hub, const std::string& commit)
      : source_(source), request_(request), hub_(hub), commit_(commit), record_(source.folder()) {}

  // Whether a file is here and whole. InputError where another one is in its place.
  bool is_here(const PlacedFile& placed) {
    struct stat status {};
    if (::stat(placed.path.c_str(), &status) != 0) {
      if (errno == ENOENT) return false;
      fail_run("cannot look at '{}': {}", placed.path, std::strerror(errno));
    }
    const FetchedRecord::File* known = record_.find(placed.file.path);
    const bool is_as_fetched = known != nullptr && known->num_bytes == status.st_size && known->modified_ns == modified_ns(status);
    if (is_as_fetched && known->checksum == placed.file.checksum) return true;
    if (is_as_fetched) {
      request_.say(fmt::format("'{}' has changed on the hub: it is fetched again", placed.file.path));
      return false;
    }
    if (S_ISREG(status.st_mode) && status.st_size == placed.file.num_bytes &&
        checksum_of_file(placed.path, placed.file.kind, placed.file.num_bytes) == placed.file.checksum) {
      remember(placed);
      return true;
    }
    fail_input("'{}' is here already, and is not the file '{}' of data set '{}' ({}): move it away, or name it as files of a source",
               placed.path, placed.file.path, source_.repository(),
               status.st_size == placed.file.num_bytes ? "its checksum is another"
                                                       : fmt::format("{} bytes in place of {}", status.st_size, placed.file.num_bytes));
  }

  static int64_t bytes_missing(const PlacedFile& placed) {
    return std::max<int64_t>(0, placed.file.num_bytes - size_of(placed.path + ".part"));
  }

  void check_room(int64_t num_bytes) const {
    struct statvfs room {};
    if (::statvfs(source_.folder().c_str(), &room) != 0) return;
    const int64_t free = static_cast<int64_t>(room.f_bavail) * static_cast<int64_t>(room.f_frsize);
    if (num_bytes + kRoomLeft > free)
      fail_run("{} are to be fetched to {}, where {} are free: make space there, or fetch a part of the data set by --documents N",
               human_bytes(num_bytes), source_.folder(), human_bytes(free));
  }

  void fetch(const PlacedFile& placed, FetchState& state) {
    make_folder(fs::path(placed.path).parent_path().string());
    const int64_t fetched_before = state.fetched_bytes;
    int64_t here = -1;  // when this process began
    FetchFileRequest one{.subject = {source_.repository(), source_.revision(), placed.file.path},
                         .file = placed.file,
                         .url = hub_.address_of(source_.repository(), commit_, placed.file.path),
                         .path = placed.path};
    one.say = request_.say;
    one.progress = [&](int64_t num_bytes) {
      if (here < 0 || num_bytes < here) here = num_bytes;
      state.num_bytes = num_bytes;
      state.fetched_bytes = fetched_before + num_bytes - here;
      request_.progress(state);
    };
    fetch_file(hub_, one);
    remember(placed);
    state.is_whole = true;
    request_.progress(state);
    state.is_whole = false;
  }

  // Of a file that is here.
  int64_t rows_of(const PlacedFile& placed) {
    FetchedRecord::File known = *record_.find(placed.file.path);
    if (known.rows < 0) {
      known.rows = count_rows(placed.path);
      record_.set(placed.file.path, known);
    }
    return known.rows;
  }

  void remember_all(size_t num_files) {
    const FetchedRecord::DataSet all{source_.repository(), source_.revision(), commit_, static_cast<int64_t>(num_files)};
    const auto& known = record_.data_set();
    if (!known || known->commit != all.commit || known->num_files != all.num_files || known->repository != all.repository) record_.set(all);
  }

  // Names files of earlier commits, which readers would take with the others.
  void tell_leftovers(const std::vector<PlacedFile>& files) const {
    std::set<std::string> listed;
    for (const PlacedFile& placed : files) listed.insert(placed.file.path);
    for (const auto& [path, file] : record_.files()) {
      const auto place = source_.place_of(path);
      std::error_code error;
      if (place && !listed.contains(path) && fs::exists(*place, error))
        request_.say(
            fmt::format("warning: '{}' is here, is no longer in the data set, and is read with its other files: move it away", *place));
    }
  }

 private:
  static int64_t modified_ns(const struct stat& status) {
    return static_cast<int64_t>(status.st_mtim.tv_sec) * 1000000000 + status.st_mtim.tv_nsec;
  }
  void remember(const PlacedFile& placed) {
    struct stat status {};
    if (::stat(placed.path.c_str(), &status) != 0) fail_run("cannot look at '{}': {}", placed.path, std::strerror(errno));
    record_.set(placed.file.path, {placed.file.checksum, static_cast<int64_t>(status.st_size), modified_ns(status), -1});
  }

  const HubSource& source_;
  const FetchRequest& request_;
  Hub& hub_;
  std::string commit_;
  FetchedRecord record_;
};

}  // namespace

Json fetch_data_set(const HubSource& source, const FetchRequest& request) {
  Hub hub(request.hub, request.say);
  const std::string commit = hub.commit_of(source.repository(), source.revision());
  const std::vector<PlacedFile> files = list_placed(hub, source, commit);
  make_folder(source.folder());
  const FileDescriptor lock = lock_folder(source.folder(), request.name, request.say);
  DataSetFetch fetch(source, request, hub, commit);
  fetch.remember_all(files.size());

  FetchState state;
  state.num_files = std::ssize(files);
  std::vector<bool> is_here(files.size(), false);
  if (request.documents == 0) {
    for (size_t i = 0; i < files.size(); ++i) {
      is_here[i] = fetch.is_here(files[i]);
      if (!is_here[i]) state.bytes_to_fetch += DataSetFetch::bytes_missing(files[i]);
    }
    if (state.bytes_to_fetch > 0) fetch.check_room(state.bytes_to_fetch);
  }
  int64_t bytes = 0, rows = 0, num_here = 0, num_fetched = 0;
  for (size_t i = 0; i < files.size() && (request.documents == 0 || rows < request.documents); ++i) {
    state.file = files[i].file.path;
    state.file_number = static_cast<int64_t>(i) + 1;
    state.bytes_of_file = files[i].file.num_bytes;
    if (request.documents > 0) is_here[i] = fetch.is_here(files[i]);
    if (!is_here[i]) {
      if (request.documents > 0) fetch.check_room(DataSetFetch::bytes_missing(files[i]));
      fetch.fetch(files[i], state);
      ++num_fetched;
    }
    ++num_here;
    bytes += files[i].file.num_bytes;
    if (request.documents > 0) rows += fetch.rows_of(files[i]);
  }
  fetch.tell_leftovers(files);
  Json told{{"name", request.name},          {"repository", source.repository()},
            {"revision", source.revision()}, {"commit", commit},
            {"folder", source.folder()},     {"files", num_here},
            {"all_files", files.size()},     {"bytes", bytes},
            {"fetched_files", num_fetched},  {"fetched_bytes", state.fetched_bytes}};
  if (request.documents > 0) told["rows"] = rows;
  return told;
}

}  // namespace zerostep
