#pragma once
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace zerostep {

// What a checkpoint says of itself, manifest.json: everything but the tensors, and the checksum of every file, its own included.
struct Manifest {
  static constexpr int kFormatVersion = 1;
  static constexpr const char* kFile = "manifest.json";
  struct File {
    std::string name;
    int64_t bytes = 0;
    std::string checksum;  // 128-bit xxHash (XXH3) of the whole file, 32 hexadecimal digits
  };
  std::string program;  // version that wrote it
  int64_t step = 0;     // steps done: the next one's number
  int ranks = 1, stage = 0;
  // The step with the lowest evaluation loss so far, which has a checkpoint too; -1: none is kept.
  int64_t best_step = -1;
  double best_loss = 0;
  nlohmann::ordered_json engine;         // Engine's scalars
  nlohmann::ordered_json configuration;  // resolved, as config.json
  nlohmann::ordered_json model;          // Hugging Face's config.json
  nlohmann::ordered_json identity;       // what a run must share with it to go on: tokenizer, data, parameters
  std::vector<File> files;
};

std::string manifest_text(const Manifest& manifest);
// InputError naming the file: missing, damaged, of a later version, not a manifest.
Manifest read_manifest(const std::string& directory);

// Of bytes, as Manifest::File::checksum.
std::string checksum_of(const void* data, size_t size);

// "step_00000100", and the other way: whether `name` is one.
std::string checkpoint_name(int64_t step);
bool parse_checkpoint_name(const std::string& name, int64_t& step);
inline constexpr const char* kLatestFile = "latest";
inline constexpr const char* kBestFile = "best";
// The directory that <checkpoints>/latest names; where there is no such file and one checkpoint alone, as a run leaves that is killed
// between the two, this. InputError: there is neither, or the file names nothing that could be one.
std::string latest_checkpoint(const std::string& checkpoints);
// The directory of the checkpoint that a user names: `path` itself, or what it names where it is a file `latest`, as latest_checkpoint, or
// `best`. InputError: it is such a file, and names nothing that could be one.
std::string checkpoint_named_by(const std::string& path);
// Whether a run has left checkpoints there.
bool holds_checkpoints(const std::string& checkpoints);
// Before a run goes on from a checkpoint of its own folder: makes it the latest, `best` what the manifest says, and sets later ones aside
// (as abandoned-step_...), so that nothing mixes the branches. RunError.
void go_back_to(const std::string& checkpoints, const Manifest& manifest);

}  // namespace zerostep
