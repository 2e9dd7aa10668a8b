#include "experiments/fetch/fetch_data_set.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <iterator>
#include <optional>
#include <set>
#include <tuple>
#include <utility>
#include <vector>

#include "base/disk_space.h"
#include "base/error.h"
#include "base/file_descriptor.h"
#include "base/file_lock.h"
#include "base/format.h"
#include "experiments/fetch/count_rows.h"
#include "experiments/fetch/fetch_file.h"
#include "experiments/fetch/fetched_record.h"
#include "experiments/fetch/part_file.h"

namespace zerostep {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kRoomLeft = int64_t{64} << 20;  // that a disk keeps

struct PlacedFile {
  HubFile file;
  std::string path;
  std::optional<bool> is_here = {};  // nothing: not looked for yet
};

// The files of the hub that belong to the data set, in the order in which readers take them.
std::vector<PlacedFile> list_placed(Hub& hub, const HubSource& source, const std::string& commit) {
  std::vector<PlacedFile> out;
  const HubSubject subject{source.repository(), source.revision(), source.folder_of_hub()};
  const auto is_wanted = [&](const std::string& path) { return source.place_of(path).has_value(); };
  for (HubFile& file : hub.files_below(subject, commit, is_wanted)) {
    std::string path = *source.place_of(file.path);
    out.push_back({std::move(file), std::move(path)});
  }
  if (out.empty())
    fail_run(
        "data set '{}' at revision '{}' has no file {}: see {}/datasets/{}/tree/{} for what there is, and correct \"source\" in the "
        "catalogue",
        source.repository(), source.revision(), source.patterns(), hub.settings().endpoint, source.repository(), source.revision());
  std::sort(out.begin(), out.end(),
            [](const PlacedFile& a, const PlacedFile& b) { return std::tie(a.path, a.file.path) < std::tie(b.path, b.file.path); });
  // A path that is listed twice is one file.
  out.erase(std::unique(out.begin(), out.end(), [](const PlacedFile& a, const PlacedFile& b) { return a.file.path == b.file.path; }),
            out.end());
  const auto twice = std::adjacent_find(out.begin(), out.end(), [](const PlacedFile& a, const PlacedFile& b) { return a.path == b.path; });
  if (twice != out.end())
    fail_run(
        "data set '{}' lists '{}' and '{}', which would both come to lie in '{}': make the patterns of \"source\" in the catalogue "
        "narrower",
        source.repository(), twice->file.path, std::next(twice)->file.path, twice->path);
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
  const std::string path = fmt::format("{}/{}", folder, kFetchLock);
  FileDescriptor lock(::open(path.c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0644));
  if (!lock.is_open()) fail_run("cannot make '{}': {}", path, std::strerror(errno));
  int error = try_lock(lock.get(), LOCK_EX);
  if (error == EWOULDBLOCK) {
    say(fmt::format("{} is being fetched by another process: waiting for its end", name));
    error = wait_for_lock(lock.get(), LOCK_EX);
  }
  if (error != 0) fail_run("cannot lock '{}': {}", path, std::strerror(error));
  return lock;
}

int64_t time_of(const struct stat& status) { return static_cast<int64_t>(status.st_mtim.tv_sec) * 1000000000 + status.st_mtim.tv_nsec; }

// Fetches what is not here, and remembers what is.
class DataSetFetch {
 public:
  DataSetFetch(const HubSource& source, const FetchRequest& request)
      : source_(source),
        request_(request),
        hub_(request.hub, request.say),
        commit_(hub_.commit_of(source.repository(), source.revision())),
        files_(list_placed(hub_, source, commit_)),
        record_(source.folder()) {
    const FetchedRecord::DataSet all{commit_, std::ssize(files_)};
    if (record_.data_set() != all) record_.set(all);
  }

  FetchOutcome run() {
    const bool is_limited = request_.documents > 0;
    FetchOutcome out;
    out.commit = commit_;
    out.all_files = std::ssize(files_);
    if (is_limited) out.rows = 0;
    FetchState state;
    state.num_files = std::ssize(files_);
    // With a limit it shows file by file what is to be fetched, without one now.
    if (!is_limited) state.bytes_to_fetch = bytes_missing_of_all();
    for (PlacedFile& placed : files_) {
      if (out.rows && *out.rows >= request_.documents) break;
      state.file = placed.file.path;
      state.file_number = ++out.num_files;
      state.bytes_of_file = placed.file.num_bytes;
      if (!is_here(placed)) {
        check_room(state.bytes_to_fetch ? *state.bytes_to_fetch - state.fetched_bytes : bytes_missing(placed));
        fetch(placed, state);
        ++out.fetched_files;
      }
      out.num_bytes += placed.file.num_bytes;
      if (out.rows) *out.rows += rows_of(placed);
    }
    out.fetched_bytes = state.fetched_bytes;
    tell_leftovers();
    return out;
  }

 private:
  static int64_t bytes_missing(const PlacedFile& placed) { return placed.file.num_bytes - PartFile::bytes_here(placed.path, placed.file); }
  int64_t bytes_missing_of_all() {
    int64_t out = 0;
    for (PlacedFile& placed : files_)
      if (!is_here(placed)) out += bytes_missing(placed);
    return out;
  }

  // Whether a file is here and whole, looked at once. InputError where another one is in its place.
  bool is_here(PlacedFile& placed) {
    if (!placed.is_here) placed.is_here = look_for(placed);
    return *placed.is_here;
  }

  bool look_for(const PlacedFile& placed) {
    struct stat status {};
    if (::stat(placed.path.c_str(), &status) != 0) {
      if (errno != ENOENT) fail_run("cannot look at '{}': {}", placed.path, std::strerror(errno));
      if (::lstat(placed.path.c_str(), &status) != 0) return false;
      fail_input("'{}' is a link that leads nowhere: remove it, or bring back what it leads to", placed.path);
    }
    const FetchedRecord::File* known = record_.find(placed.file.path);
    const bool is_as_fetched = known != nullptr && known->num_bytes == status.st_size && known->modified_ns == time_of(status);
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

  void check_room(int64_t num_bytes) const {
    const auto space = disk_space(source_.folder());
    if (space && num_bytes > space->free - kRoomLeft)
      fail_run("{} are to be fetched to {}, where {} are free: make space there, or fetch a part of the data set by --documents N",
               human_bytes(num_bytes), source_.folder(), human_bytes(space->free));
  }

  void fetch(const PlacedFile& placed, FetchState& state) {
    make_folder(fs::path(placed.path).parent_path().string());
    int64_t here = PartFile::bytes_here(placed.path, placed.file);
    FetchFileRequest one{.subject = {source_.repository(), source_.revision(), placed.file.path},
                         .file = placed.file,
                         .url = hub_.address_of(source_.repository(), commit_, placed.file.path),
                         .path = placed.path};
    one.say = request_.say;
    one.progress = [&](int64_t num_bytes) {
      state.num_bytes = num_bytes;
      if (num_bytes >= here)
        state.fetched_bytes += num_bytes - here;
      else if (state.bytes_to_fetch)  // what was thrown away is to be fetched again
        *state.bytes_to_fetch += here - num_bytes;
      here = num_bytes;
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

  // Names files of earlier commits, which readers would take with the others.
  void tell_leftovers() const {
    std::set<std::string> listed;
    for (const PlacedFile& placed : files_) listed.insert(placed.file.path);
    for (const auto& [path, file] : record_.files()) {
      const auto place = source_.place_of(path);
      std::error_code error;
      if (place && !listed.contains(path) && fs::exists(*place, error))
        request_.say(
            fmt::format("warning: '{}' is here, is no longer in the data set, and is read with its other files: move it away", *place));
    }
  }

  void remember(const PlacedFile& placed) {
    struct stat status {};
    if (::stat(placed.path.c_str(), &status) != 0) fail_run("cannot look at '{}': {}", placed.path, std::strerror(errno));
    record_.set(placed.file.path, {placed.file.checksum, static_cast<int64_t>(status.st_size), time_of(status), -1});
  }

  const HubSource& source_;
  const FetchRequest& request_;
  Hub hub_;
  const std::string commit_;
  std::vector<PlacedFile> files_;
  FetchedRecord record_;
};

}  // namespace

FetchOutcome fetch_data_set(const HubSource& source, const FetchRequest& request) {
  make_folder(source.folder());
  // What another process fetches meanwhile may be of a later commit.
  const FileDescriptor lock = lock_folder(source.folder(), request.name, request.say);
  return DataSetFetch(source, request).run();
}

}  // namespace zerostep
