#include "runtime/checkpoint/checkpoint_writer.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <sstream>
#include <system_error>
#include <utility>

#include "base/error.h"
#include "runtime/checkpoint/checkpoint_folders.h"

namespace zerostep {
namespace fs = std::filesystem;
namespace {

using Clock = std::chrono::steady_clock;
double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

bool polled(double seconds, const std::function<bool()>& is_so) {
  for (const auto start = Clock::now(); !is_so(); std::this_thread::sleep_for(std::chrono::milliseconds(5)))
    if (seconds_since(start) > seconds) return false;
  return true;
}

std::string note_of_rank(int rank) { return fmt::format("rank_{:05}.note", rank); }

// "" where there is no such file.
std::string content_of(const fs::path& path) {
  std::error_code error;
  if (!fs::is_regular_file(path, error)) return "";
  std::ifstream in(path, std::ios::binary);
  std::stringstream out;
  out << in.rdbuf();
  return out.str();
}

void make_directory(Disk& disk, const std::string& path) {
  if (disk.make_directory(path) < 0 && errno != EEXIST) {
    const int error = errno;
    fail_run("cannot make the folder {}: {}{}", path, std::strerror(error), error == ENOSPC ? " (no space for it)" : "");
  }
}

// What there is beside a checkpoint that could not be written.
std::string what_remains(const std::string& folder) {
  const std::string latest = content_of(fs::path(folder) / kLatestFile);
  return latest.empty() ? "The run has no checkpoint before it"
                        : fmt::format("The checkpoint before it, {}, is untouched", latest.substr(0, latest.find('\n')));
}

}  // namespace

std::string CheckpointWriter::file_of_rank(int rank) { return fmt::format("rank_{:05}.safetensors", rank); }

CheckpointWriter::CheckpointWriter(Options options, const std::vector<StatePiece>& pieces, CopyState copy)
    : options_(std::move(options)), image_(pieces), copy_(std::move(copy)) {
  if (options_.rank != 0) return;
  std::error_code error;
  fs::create_directories(options_.folder, error);
  if (error) fail_run("cannot make the folder {} of the checkpoints: {}", options_.folder, error.message());
  for (const fs::directory_entry& entry : fs::directory_iterator(options_.folder, error)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with(kPartialCheckpoint) || name.starts_with(kRemovedCheckpoint)) fs::remove_all(entry.path(), error);
  }
}

CheckpointWriter::~CheckpointWriter() {
  abandon();
  join();
}

void CheckpointWriter::join() {
  if (thread_.joinable()) thread_.join();
}

void CheckpointWriter::save(Manifest manifest) {
  const auto called = Clock::now();
  join();
  // What became of the checkpoint before is said below: this one is written in any case, so that all ranks write the same ones.
  std::string before;
  {
    const std::lock_guard lock(mutex_);
    before = std::move(error_);
    error_.clear();
  }
  const auto start = Clock::now();
  image_.stage(copy_);
  {
    const std::lock_guard lock(mutex_);
    times_.waited_seconds += std::chrono::duration<double>(start - called).count();
    times_.staged_seconds += seconds_since(start);
    times_.bytes = static_cast<int64_t>(image_.size());
    ++times_.count;
    writing_ = manifest.step;
  }
  const auto write_it = [this, manifest = std::move(manifest)] {
    const auto begin = Clock::now();
    std::string error;
    try {
      write(manifest);
    } catch (const std::exception& e) {
      error = e.what();
    }
    const std::lock_guard lock(mutex_);
    times_.written_seconds += seconds_since(begin);
    if (!error.empty()) error_ = error;
    saved_ = std::exchange(writing_, -1);
  };
  try {
    thread_ = std::thread(write_it);
  } catch (const std::system_error&) {
    write_it();  // no thread is to be had: training waits
  }
  if (!before.empty()) throw RunError(before);
}

std::string CheckpointWriter::take_warning() {
  const std::lock_guard lock(mutex_);
  return std::exchange(warning_, {});
}

void CheckpointWriter::check() {
  const std::lock_guard lock(mutex_);
  if (error_.empty()) return;
  const std::string error = std::move(error_);
  error_.clear();
  throw RunError(error);
}

void CheckpointWriter::finish() {
  join();
  check();
}

// Rank 0 takes the partial folder away, under its name or altogether, and names a complete one as the latest.
bool CheckpointWriter::is_completed(int64_t step) const {
  const std::string name = checkpoint_name(step);
  const fs::path folder = options_.folder;
  std::error_code ignored;
  if (fs::exists(folder / (kPartialCheckpoint + name), ignored)) return false;
  return !fs::exists(folder / name, ignored) || content_of(folder / kLatestFile) >= name;
}

int64_t CheckpointWriter::under_way() {
  const std::lock_guard lock(mutex_);
  return writing_;
}

int64_t CheckpointWriter::last_begun() {
  const std::lock_guard lock(mutex_);
  return writing_ >= 0 ? writing_ : saved_;
}

bool CheckpointWriter::wait_until_written(double seconds) {
  return polled(seconds, [this] { return under_way() < 0; });
}

bool CheckpointWriter::wait_until_complete(double seconds) {
  const auto start = Clock::now();
  if (!wait_until_written(seconds)) return false;
  const int64_t saved = [this] {
    const std::lock_guard lock(mutex_);
    return saved_;
  }();
  return options_.rank == 0 || saved < 0 || polled(seconds - seconds_since(start), [&] { return is_completed(saved); });
}

CheckpointWriter::Times CheckpointWriter::times() {
  const std::lock_guard lock(mutex_);
  return times_;
}

void CheckpointWriter::write(const Manifest& manifest) {
  const std::string partial = (fs::path(options_.folder) / (kPartialCheckpoint + checkpoint_name(manifest.step))).string();
  const std::string what = fmt::format("checkpoint of step {}", manifest.step);
  const std::string note = (fs::path(partial) / note_of_rank(options_.rank)).string();
  try {
    make_directory(*options_.disk, options_.folder);
    if (options_.rank == 0) remove_partial(manifest.step);
    make_directory(*options_.disk, partial);
    const Manifest::File file = write_shard(partial);
    if (options_.rank != 0) {
      // Its appearance is the last that this rank has to do with the folder, which rank 0 may then rename.
      const std::string unseen = note + ".unseen";
      write_durably(*options_.disk, unseen, nlohmann::json({{"bytes", file.bytes}, {"checksum", file.checksum}}).dump());
      return rename_durably(*options_.disk, unseen, note);
    }
    Manifest complete_manifest = manifest;
    complete_manifest.files = {file};
    complete(partial, std::move(complete_manifest));
  } catch (const std::exception& error) {
    const std::string text = fmt::format("rank {}: {}: {}. {}", options_.rank, what, error.what(), what_remains(options_.folder));
    if (options_.rank == 0) {
      std::error_code ignored;
      fs::remove_all(partial, ignored);
    } else {
      std::error_code ignored;
      fs::remove(fs::path(partial) / file_of_rank(options_.rank), ignored);  // on a full disk the note needs its place
      try {
        write_durably(*options_.disk, note, nlohmann::json({{"error", error.what()}}).dump());
      } catch (const std::exception&) {  // rank 0 stops waiting after its time; this rank says what happened in any case
      }
    }
    throw RunError(text);
  }
}

Manifest::File CheckpointWriter::write_shard(const std::string& partial) {
  const std::string name = file_of_rank(options_.rank), path = (fs::path(partial) / name).string();
  const std::string checksum = checksum_of(image_.data(), image_.size());
  write_file_directly(*options_.disk, path, image_.data(), image_.size());
  return {name, static_cast<int64_t>(image_.size()), checksum};
}

std::vector<Manifest::File> CheckpointWriter::files_of_all(const std::string& partial) {
  std::vector<Manifest::File> files;
  const auto start = Clock::now();
  for (int rank = 1; rank < options_.ranks; ++rank) {
    const fs::path note = fs::path(partial) / note_of_rank(rank);
    std::error_code error;
    for (auto pause = std::chrono::milliseconds(1); !fs::exists(note, error); pause = std::min(2 * pause, std::chrono::milliseconds(50))) {
      if (abandoned_) fail_run("the run ends, and rank {} has not written its file", rank);
      if (seconds_since(start) > options_.timeout_seconds)
        fail_run("rank {} has not written its file after {:.0f} s (run.collective_timeout_seconds)", rank, options_.timeout_seconds);
      std::this_thread::sleep_for(pause);
    }
    const auto found = nlohmann::json::parse(content_of(note));
    if (found.contains("error")) fail_run("rank {}: {}", rank, found.at("error").get<std::string>());
    files.push_back({file_of_rank(rank), found.at("bytes").get<int64_t>(), found.at("checksum").get<std::string>()});
    fs::remove(note, error);
  }
  return files;
}

void CheckpointWriter::complete(const std::string& partial, Manifest manifest) {
  Disk& disk = *options_.disk;
  for (Manifest::File& file : files_of_all(partial)) manifest.files.push_back(std::move(file));
  write_durably(disk, (fs::path(partial) / Manifest::kFile).string(), manifest_text(manifest));
  const fs::path folder = options_.folder, target = folder / checkpoint_name(manifest.step);
  const fs::path removed = folder / (kRemovedCheckpoint + target.filename().string());
  std::error_code error;
  // A run that goes on from before this step makes it again.
  if (fs::exists(target, error)) rename_durably(disk, target.string(), removed.string());
  rename_durably(disk, partial, target.string());
  sync_directory(disk, options_.folder);
  if (manifest.best_step == manifest.step) write_durably(disk, (folder / kBestFile).string(), target.filename().string() + "\n");
  write_durably(disk, (folder / kLatestFile).string(), target.filename().string() + "\n");
  // The checkpoint is there: what goes wrong from here on costs space alone.
  fs::remove_all(removed, error);
  try {
    remove_old(manifest.step, manifest.best_step);
  } catch (const std::exception& e) {
    const std::lock_guard lock(mutex_);
    warning_ = fmt::format("an old checkpoint stays: {}", e.what());
  }
}

// Of checkpoints before this one that came to nothing.
void CheckpointWriter::remove_partial(int64_t before) {
  std::error_code ignored;
  for (const fs::directory_entry& entry : fs::directory_iterator(options_.folder, ignored)) {
    const std::string name = entry.path().filename().string();
    int64_t step = 0;
    if (name.starts_with(kPartialCheckpoint) && parse_checkpoint_name(name.substr(std::string_view(kPartialCheckpoint).size()), step) &&
        step < before)
      fs::remove_all(entry.path(), ignored);
  }
}

// Those of later steps, which a run has that went back to an earlier one, stay.
void CheckpointWriter::remove_old(int64_t step, int64_t best_step) {
  if (options_.keep == 0) return;
  int64_t best_on_disk = -1;
  const std::string best = content_of(fs::path(options_.folder) / kBestFile);
  parse_checkpoint_name(best.substr(0, best.find('\n')), best_on_disk);
  std::vector<int64_t> found;
  for (const fs::directory_entry& entry : fs::directory_iterator(options_.folder)) {
    int64_t of = 0;
    if (entry.is_directory() && parse_checkpoint_name(entry.path().filename().string(), of) && of <= step && of != best_step &&
        of != best_on_disk)
      found.push_back(of);
  }
  std::sort(found.begin(), found.end());
  for (size_t i = 0; i + static_cast<size_t>(options_.keep) < found.size(); ++i)
    remove_checkpoint(*options_.disk, fs::path(options_.folder) / checkpoint_name(found[i]));
}

}  // namespace zerostep
