#include "runtime/report/zo_log.h"

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/json_depth.h"
#include "base/mapped_file.h"

namespace zerostep {
namespace {

ZoLogLine parse(const std::string& text, const std::string& where) {
  try {
    const nlohmann::json j = nlohmann::json::parse(text);
    ZoLogLine line;
    line.step = j.at("step").get<int64_t>();
    line.seed = j.at("seed").get<uint64_t>();
    line.epsilon = j.at("epsilon").get<double>();
    line.lr = j.at("lr").get<double>();
    line.clip_scale = j.at("clip_scale").get<double>();
    line.skipped = j.at("skipped").get<bool>();
    if (const auto values = j.find("update"); values != j.end()) {
      if (!values->is_object()) fail_input("{}: update is {}; expected the values of the run by their paths", where, values->dump());
      line.update_values = values->dump();
    }
    line.first_values = j.value("first_values", "");
    // A skipped step has scalars that are no numbers.
    for (const auto& value : j.at("scalars")) line.scalars.push_back(value.is_null() && line.skipped ? 0.0 : value.get<double>());
    return line;
  } catch (const nlohmann::json::exception& error) {
    fail_input("{}: not a line of a log of scalars ({}); is it cut short, or another file?", where, error.what());
  }
}

}  // namespace

ZoLog::ZoLog(const std::string& path, std::string update_values, int64_t first_step) : new_values_(std::move(update_values)) {
  nlohmann::json before;  // null: no line holds any
  if (first_step > 0)
    keep_lines(path, [&](std::string_view line) {
      const auto j = nlohmann::json::parse(unless_too_deep(line), nullptr, /*allow_exceptions=*/false);
      const bool keeps = j.is_object() && j.contains("step") && j["step"].is_number_integer() && j["step"].get<int64_t>() < first_step;
      if (keeps && j.contains("update")) before = j["update"];
      return keeps;
    });
  if (before == nlohmann::json::parse(new_values_)) new_values_.clear();
  file_ = OutputFile(path, first_step > 0 ? OutputFile::Mode::Append : OutputFile::Mode::Truncate);
}

void ZoLog::append(const ZoLogLine& line) {
  nlohmann::ordered_json j = {{"step", line.step},      {"seed", line.seed},       {"epsilon", line.epsilon},
                              {"lr", line.lr},          {"scalars", line.scalars}, {"clip_scale", line.clip_scale},
                              {"skipped", line.skipped}};
  if (!new_values_.empty()) j["update"] = nlohmann::ordered_json::parse(new_values_);
  if (!line.first_values.empty()) j["first_values"] = line.first_values;
  file_.write(j.dump() + "\n");
  new_values_.clear();
}

std::vector<ZoLogLine> read_zo_log(const std::string& path) {
  require_regular_file(path);
  std::ifstream in(path);
  if (!in)
    fail_input(
        "{}: {}", path,
        std::filesystem::exists(path)
            ? "cannot be read"
            : "is missing: the log of a run whose steps are made by forward passes alone (step.mode \"zo\") lies in its folder; a run of "
              "backprop has none, and its weights are in its checkpoints");
  std::vector<ZoLogLine> lines;
  for (std::string text; std::getline(in, text);) {
    const std::string where = fmt::format("{}, line {}", path, lines.size() + 1);
    ZoLogLine line = parse(text, where);
    const int64_t expected = static_cast<int64_t>(lines.size());
    if (line.step != expected)
      fail_input("{}: holds step {} where {} belongs: the log has a {}, so the weights cannot be rebuilt from it", where, line.step,
                 expected, line.step > expected ? "gap" : "repeat");
    if (!lines.empty() && line.seed != lines.front().seed)
      fail_input("{}: seed {} where the log began with {}: it holds lines of two runs", where, line.seed, lines.front().seed);
    if (!lines.empty() && line.scalars.size() != lines.front().scalars.size())
      fail_input("{}: {} scalars where the log began with {}", where, line.scalars.size(), lines.front().scalars.size());
    lines.push_back(std::move(line));
  }
  if (lines.empty()) fail_input("{}: is empty: no step to rebuild from", path);
  return lines;
}

}  // namespace zerostep
