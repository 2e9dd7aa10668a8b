#pragma once
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "runtime/config/config.h"

namespace zerostep {

// What the command line changes of a file.
struct Setting {
  std::string text;  // "PATH=VALUE": VALUE is JSON, else a string; null takes the key out
  std::string from;  // as it was typed, for messages: "--set run.steps=2", "--device cuda"; "": nobody did, it counts as the file's
  bool is_automatic = false;  // it is what "auto" of the file stands for, and labelled so
};

struct ConfigRequest {
  std::string file;
  std::vector<Setting> set = {};
  int world = 1;                         // data-parallel ranks, for the batch arithmetic
  std::optional<std::string> text = {};  // the content of the file, which is only a name then; nothing: it is read
  std::string started = {};              // date and time in the name of a run whose file gives none; "": no run starts, and none is written
};

namespace schema {
class Values;
}

struct LoadedConfig {
  Config config;
  std::shared_ptr<const schema::Values> values;  // what the texts are made of
  std::string resolved_json;                     // plain JSON, a valid input at any world size (derived batch values left out)
  std::string labelled_text;                     // what `zerostep config FILE` prints: each value with given, default, derived or auto
  std::string update_values;                     // JSON, path by path: what forward-only updates depend on beside the log of their scalars
  std::vector<std::string> warnings;             // one line each
};

// Reads, checks and resolves a file. InputError: one paragraph that names the file, the JSON path, the value found and what is allowed.
LoadedConfig load_config(const ConfigRequest& request);

// Gives the run another name, in everything that the configuration was resolved to.
void rename_run(LoadedConfig& loaded, const std::string& name);

// One line for each variable of the environment that is set and known to users of DeepSpeed: who reads it, or why it is not needed here.
std::vector<std::string> describe_environment();

// What `zerostep config --keys` prints: every known key with its list (honoured, accepted, refused), type, default and meaning.
std::string describe_keys();

}  // namespace zerostep
