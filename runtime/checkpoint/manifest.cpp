#include "runtime/checkpoint/manifest.h"

#include <fmt/format.h>
#include <xxhash.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <filesystem>

#include "base/error.h"
#include "base/json_depth.h"
#include "base/mapped_file.h"
#include "offload/disk.h"
#include "runtime/checkpoint/checkpoint_folders.h"

namespace zerostep {
namespace fs = std::filesystem;
namespace {

using Json = nlohmann::ordered_json;

constexpr const char* kFormat = "zerostep checkpoint";

Json body_of(const Manifest& m) {
  Json files = Json::array();
  for (const Manifest::File& f : m.files) files.push_back({{"name", f.name}, {"bytes", f.bytes}, {"checksum", f.checksum}});
  return {{"format", kFormat},
          {"format_version", Manifest::kFormatVersion},
          {"program", m.program},
          {"step", m.step},
          {"ranks", m.ranks},
          {"stage", m.stage},
          {"best_step", m.best_step},
          {"best_loss", m.best_loss},
          {"engine", m.engine},
          {"configuration", m.configuration},
          {"model", m.model},
          {"identity", m.identity},
          {"files", files}};
}

std::string checksum_of(const std::string& text) { return zerostep::checksum_of(text.data(), text.size()); }

}  // namespace

std::string checksum_of(const void* data, size_t size) {
  const XXH128_hash_t hash = XXH3_128bits(data, size);
  return fmt::format("{:016x}{:016x}", hash.high64, hash.low64);
}

// The checksum is that of the text as it would be without the checksum's own line, so that a reader needs no parser to check it.
std::string manifest_text(const Manifest& manifest) {
  const std::string body = body_of(manifest).dump(1);
  return body.substr(0, body.size() - 2) + ",\n \"checksum\": \"" + checksum_of(body) + "\"\n}\n";
}

Manifest read_manifest(const std::string& directory) {
  const std::string path = (fs::path(directory) / Manifest::kFile).string();
  std::error_code error;
  if (fs::status(path, error).type() == fs::file_type::not_found)
    fail_input("{}: there is no such file: {} is no checkpoint, or a damaged one", path, directory);
  const std::string text(MappedFile(path).text());
  const size_t line = text.rfind(",\n \"checksum\": \"");
  const auto damaged = [&](const std::string& how) { fail_input("{}: the checkpoint is damaged: {}", path, how); };
  if (line == std::string::npos) damaged("it does not end with its checksum");
  const std::string body = text.substr(0, line) + "\n}";
  if (text != body.substr(0, body.size() - 2) + ",\n \"checksum\": \"" + checksum_of(body) + "\"\n}\n") damaged("its checksum is another");
  if (is_json_too_deep(body)) damaged(fmt::format("it nests more than {} deep", kDeepestJson));
  try {
    const Json j = Json::parse(body);
    if (j.at("format") != kFormat) damaged("it is not a manifest of this program");
    if (const int version = j.at("format_version").get<int>(); version > Manifest::kFormatVersion)
      fail_input("{}: has format {}, this program reads up to {}: a later version of it is needed", path, version,
                 Manifest::kFormatVersion);
    Manifest m;
    m.program = j.at("program").get<std::string>();
    m.step = j.at("step").get<int64_t>();
    m.ranks = j.at("ranks").get<int>();
    m.stage = j.at("stage").get<int>();
    m.best_step = j.at("best_step").get<int64_t>();
    m.best_loss = j.at("best_loss").get<double>();
    m.engine = j.at("engine");
    m.configuration = j.at("configuration");
    m.model = j.at("model");
    m.identity = j.at("identity");
    for (const Json& f : j.at("files"))
      m.files.push_back({f.at("name").get<std::string>(), f.at("bytes").get<int64_t>(), f.at("checksum").get<std::string>()});
    return m;
  } catch (const nlohmann::json::exception& error) {
    damaged(error.what());
  }
  return {};
}

std::string checkpoint_name(int64_t step) { return fmt::format("step_{:08}", step); }

bool parse_checkpoint_name(const std::string& name, int64_t& step) {
  constexpr std::string_view kPrefix = "step_";
  if (!name.starts_with(kPrefix)) return false;
  const char *begin = name.data() + kPrefix.size(), *end = name.data() + name.size();
  const auto [stop, error] = std::from_chars(begin, end, step);
  return error == std::errc() && stop == end && checkpoint_name(step) == name;
}

namespace {

std::vector<fs::path> checkpoints_in(const fs::path& folder) {
  std::error_code error;
  int64_t step = 0;
  std::vector<fs::path> out;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder, error))
    if (parse_checkpoint_name(entry.path().filename().string(), step) && entry.is_directory(error)) out.push_back(entry.path());
  return out;
}

// What `latest` would name where it is missing beside one checkpoint alone: a checkpoint is whole once it has its name, and a run that is
// killed after its first has it and before it writes `latest` leaves the one without the other. "" in any other case.
std::string only_checkpoint(const fs::path& folder) {
  std::error_code error;
  if (fs::symlink_status(folder / kLatestFile, error).type() != fs::file_type::not_found) return "";
  const std::vector<fs::path> found = checkpoints_in(folder);
  return found.size() == 1 ? found.front().string() : "";
}

}  // namespace

bool holds_checkpoints(const std::string& checkpoints) {
  std::error_code error;
  return fs::exists(fs::path(checkpoints) / kLatestFile, error) || !checkpoints_in(checkpoints).empty();
}

void go_back_to(const std::string& checkpoints, const Manifest& manifest) {
  const fs::path folder(checkpoints);
  Disk& disk = Disk::real();
  write_durably(disk, (folder / kLatestFile).string(), checkpoint_name(manifest.step) + "\n");
  std::error_code ignored;
  const std::string best = manifest.best_step >= 0 ? checkpoint_name(manifest.best_step) : "";
  if (!best.empty() && fs::exists(folder / best, ignored))
    write_durably(disk, (folder / kBestFile).string(), best + "\n");
  else
    fs::remove(folder / kBestFile, ignored);
  std::vector<std::string> later;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
    int64_t step = 0;
    if (parse_checkpoint_name(entry.path().filename().string(), step) && step > manifest.step)
      later.push_back(entry.path().filename().string());
  }
  for (const std::string& name : later) {
    fs::path aside = folder / (kAbandonedCheckpoint + name);
    for (int number = 2; fs::exists(aside, ignored); ++number) aside = folder / fmt::format("{}{}-{}", kAbandonedCheckpoint, name, number);
    rename_durably(disk, (folder / name).string(), aside.string());
  }
}

std::string checkpoint_named_by(const std::string& path) {
  const fs::path pointer(path);
  std::error_code error;
  if (pointer.filename() != kLatestFile && pointer.filename() != kBestFile) return path;
  if (const std::string only = only_checkpoint(pointer.parent_path()); !only.empty() && pointer.filename() == kLatestFile) return only;
  const fs::file_type type = fs::status(pointer, error).type();
  if (type == fs::file_type::not_found || type == fs::file_type::directory) return path;
  std::string name(MappedFile(path).text());
  while (!name.empty() && std::isspace(static_cast<unsigned char>(name.back()))) name.pop_back();
  const bool plain = !name.empty() && name.find('/') == std::string::npos && name != "." && name != ".." &&
                     std::all_of(name.begin(), name.end(), [](unsigned char c) { return c > 32 && c < 127; });
  if (!plain)
    fail_input(
        "{}: is damaged: {}. Name a checkpoint, as {}", path,
        name.find('\n') == std::string::npos ? "it does not name one" : "it has several lines, and one that names a checkpoint is expected",
        (pointer.parent_path() / "step_...").string());
  const fs::path directory = pointer.parent_path() / name;
  if (!fs::is_directory(directory, error)) fail_input("{}: names {}, and there is no such folder", path, directory.string());
  return directory.string();
}

std::string latest_checkpoint(const std::string& checkpoints) {
  const fs::path pointer = fs::path(checkpoints) / kLatestFile;
  std::error_code error;
  const fs::file_type type = fs::status(pointer, error).type();
  if (const std::string only = only_checkpoint(checkpoints); !only.empty()) return only;
  if (type == fs::file_type::not_found && holds_checkpoints(checkpoints))
    fail_input("{}: is missing, and which of the checkpoints beside it is the latest cannot be told: name one, as --resume {}",
               pointer.string(), (fs::path(checkpoints) / "step_...").string());
  if (type == fs::file_type::not_found)
    fail_input(
        "{}: there is no latest checkpoint to resume from: a run writes checkpoints only where run.checkpoint_interval (or run.keep_best) "
        "is set. Name another run's checkpoint, or start anew with run.checkpoint_interval set: without --resume, and with another "
        "run.name or --overwrite where the folder holds a run",
        pointer.string());
  if (type == fs::file_type::directory || type == fs::file_type::none)  // none: a loop of links
    fail_input("{}: is no file that names a checkpoint. Remove it, and name a checkpoint, as --resume {}", pointer.string(),
               (fs::path(checkpoints) / "step_...").string());
  return checkpoint_named_by(pointer.string());
}

}  // namespace zerostep
