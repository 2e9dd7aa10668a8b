#include <fmt/format.h>

#include <map>
#include <nlohmann/json.hpp>

#include "base/console.h"
#include "base/format.h"
#include "launch/commands/commands.h"
#include "runtime/checkpoint/checkpoint_reader.h"

namespace zerostep {
namespace {

void say(const char* name, const std::string& text) { print_out("{:<14}{}\n", name, text); }

// "a 1, b 2" of an object's plain values.
std::string listed(const nlohmann::ordered_json& object) {
  std::string out;
  for (const auto& [key, value] : object.items())
    if (value.is_primitive())
      out += fmt::format("{}{} {}", out.empty() ? "" : ", ", key, value.is_string() ? value.get<std::string>() : value.dump());
  return out;
}

}  // namespace

int inspect_checkpoint(const std::string& path) {
  const std::string directory = checkpoint_named_by(path);
  CheckpointReader checkpoint(directory);
  const Manifest& m = checkpoint.manifest();
  for (size_t file = 0; file < m.files.size(); ++file) checkpoint.verify(file);
  checkpoint.open();
  int64_t bytes = 0;
  for (const Manifest::File& f : m.files) bytes += f.bytes;
  say("checkpoint", directory);
  say("step", fmt::format("{} steps done", grouped(m.step)));
  say("written by", fmt::format("zerostep {}, {} at stage {}", m.program, counted(m.ranks, "rank"), m.stage));
  if (m.best_step >= 0) say("best", fmt::format("evaluation loss {} after step {}", round_trip(m.best_loss), m.best_step));
  say("model", listed(m.model));
  std::map<int, int64_t> counts;  // of optimizer state: parameters
  for (const std::string& name : checkpoint.parameters()) ++counts[checkpoint.arrays_of(name)];
  std::string parameters;
  for (const auto& [arrays, count] : counts)
    parameters +=
        fmt::format("{}{} with {} of optimizer state an element", parameters.empty() ? "" : ", ", grouped(count), counted(arrays, "value"));
  say("parameters", parameters);
  say("run", listed(m.identity));
  say("engine", listed(m.engine) + ", loss scaler: " + listed(m.engine.value("loss_scaler", nlohmann::ordered_json::object())));
  say("files", fmt::format("{} of {} in all, every checksum verified", m.files.size(), human_bytes(bytes)));
  for (const Manifest::File& f : m.files) print_out("  {:<28}{:>16} bytes  {}\n", f.name, grouped(f.bytes), f.checksum);
  return kDone;
}

}  // namespace zerostep
