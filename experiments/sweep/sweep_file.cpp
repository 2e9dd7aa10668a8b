#include "experiments/sweep/sweep_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "base/error.h"
#include "base/nearest_name.h"
#include "experiments/records/read_file.h"
#include "models/text_file.h"
#include "runtime/config/document.h"
#include "runtime/config/schema.h"

namespace zerostep {
namespace {

using nlohmann::json;

// "Asks: how ...?" of the first comment of a file that begins so, without that word, and of the lines after it that go on with it: until
// one that is indented, as examples are.
std::string asked_in_comment(const std::string& text) {
  constexpr std::string_view kMark = "//", kAsks = "Asks: ";
  std::string out;
  bool is_in = false;
  for_each_line(text, [&](std::string_view line, int64_t) {
    if (!line.starts_with(kMark)) return void(is_in = false);
    line.remove_prefix(kMark.size());
    if (line.starts_with(' ')) line.remove_prefix(1);
    if (out.empty() && line.starts_with(kAsks)) {
      out = line.substr(kAsks.size());
      is_in = true;
    } else if (is_in && !line.starts_with(' ') && !line.empty()) {
      out += " " + std::string(line);
    } else {
      is_in = false;
    }
  });
  return out;
}

// Reads blocks of the file and collects what is wrong with them.
class Reader {
 public:
  explicit Reader(schema::Document document) : document_(std::move(document)) {}

  SweepFile read() {
    SweepFile out;
    out.file = document_.file;
    out.document = document_.root;
    const json& root = document_.root;
    if (!root.is_object()) fail_input("{}: expected a JSON object with `base` and `grid`, `runs` or `repeat`", document_.file);
    if (root.contains("model") && !root.contains("base"))
      fail_input(
          "{}: is the file of a run, which `zerostep train` takes; a sweep file has that as its `base`, and says with `grid`, `runs` or "
          "`repeat` what changes",
          document_.file);
    know("", root, {"base", "name", "output_dir", "asks", "grid", "when", "runs", "repeat", "resources", "search"});
    out.name = text(root, "name", std::filesystem::path(document_.file).stem().string());
    const bool has_control = std::any_of(out.name.begin(), out.name.end(), [](char c) { return static_cast<unsigned char>(c) < ' '; });
    if (out.name.empty() || has_control || out.name.find('/') != std::string::npos || out.name == "." || out.name == "..")
      wrong("name", fmt::format("is '{}'; the name of a folder is expected, without a / and control characters", out.name));
    out.output_dir = text(root, "output_dir", "runs");
    if (out.output_dir.empty()) wrong("output_dir", "is empty, which names no folder");
    out.asks = text(root, "asks", "");
    base(root, out);
    out.grid = grid(root, "grid", "grid");
    out.repeat = grid(root, "repeat", "repeat");
    each(root, "when", [&](const json& block, const std::string& path) {
      know(path, block, {"if", "grid"});
      SweepFile::When when{.conditions = {}, .grid = grid(block, "grid", path + ".grid")};
      if (!block.contains("if") || !block["if"].is_object() || block["if"].empty())
        wrong(path + ".if", "is missing; the keys that a point has to have, with their values, are expected");
      else
        when.conditions = values(block["if"], path + ".if");
      if (!block.is_object() || !block.contains("grid"))
        wrong(path + ".grid", "is missing; the grid of the points that have these values is expected");
      out.whens.push_back(std::move(when));
    });
    each(root, "runs", [&](const json& block, const std::string& path) { out.runs.push_back(values(block, path)); });
    resources(root, out.resources);
    search(root, out);
    // What is wrong with keys alone is told with whatever is wrong with the points without them.
    if (errors_.size() > num_of_keys_) throw InputError(fmt::format("{}", fmt::join(errors_, "; ")));
    out.wrong_keys = errors_;
    if (out.wrong_keys.empty() && !out.whens.empty() && out.grid.empty() && !out.runs.empty())
      fail_input("{}: `when` adds to the points of `grid`, and there is no grid", document_.file);
    return out;
  }

 private:
  void wrong(const std::string& path, const std::string& what) { errors_.push_back(fmt::format("{}: {} {}", document_.file, path, what)); }

  // Names that a block of the sweep file itself may have.
  void know(const std::string& path, const json& block, const std::vector<std::string_view>& names) {
    if (!block.is_object()) return wrong(path, fmt::format("is {}; a block is expected", schema::shown(block)));
    for (const auto& [name, value] : block.items()) {
      if (std::find(names.begin(), names.end(), name) != names.end()) continue;
      const std::string_view nearest = nearest_name(name, names);
      wrong((path.empty() ? "" : path + ".") + name, nearest.empty()
                                                         ? fmt::format("is not known here; there are {}", fmt::join(names, ", "))
                                                         : fmt::format("is not a known key; the nearest is {}", nearest));
    }
  }

  // Of "data.train[0].weight", "data.train.0.weight" and "data.train.alpha.weight" data.train; "" where a key above is none, or no list.
  static std::string key_set_as_a_whole(const std::string& path) {
    for (size_t end = path.find_first_of(".[]"); end != path.npos; end = path.find_first_of(".[]", end + 1)) {
      const std::string above = path.substr(0, end);
      const schema::Key* key = schema::find(above);
      const bool is_structured = key != nullptr && (key->type.kind == schema::Kind::Sources || key->type.kind == schema::Kind::Texts ||
                                                    key->type.kind == schema::Kind::Pair || key->type.kind == schema::Kind::Anything);
      if (is_structured || schema::is_block(above + "[]")) return above;
    }
    return "";
  }

  void wrong_key(const std::string& path, const std::string& what) {
    wrong(path, what);
    ++num_of_keys_;
  }

  // A key of a run's file.
  bool know_key(const std::string& place, const std::string& path) {
    if (schema::is_block(path)) {
      wrong_key(place + "." + path, "is a block; the path of one of its keys is expected, as in step.queries");
      return false;
    }
    if (path == "run.name" || path == "run.output_dir") {
      wrong_key(place + "." + path, "is set by the sweep: each run has a folder of its own below output_dir and name");
      return false;
    }
    if (schema::is_known(path)) return true;
    if (const std::string whole = key_set_as_a_whole(path); !whole.empty()) {
      wrong_key(place + "." + path,
                fmt::format("is a part of {0}, which is set as a whole: expected is {0} with JSON values that are the lists "
                            "or objects of a run's file each",
                            whole));
      return false;
    }
    std::vector<std::string_view> paths;  // but those of the objects of a list, which no sweep sets by themselves
    for (const schema::Key& key : schema::keys())
      if (key.path.find("[]") == key.path.npos) paths.push_back(key.path);
    std::string_view nearest = nearest_name(path, paths);
    if (nearest.empty()) nearest = schema::path_of_name(path.substr(path.rfind('.') + 1));
    if (nearest.empty()) {
      std::vector<std::string_view> names;
      for (std::string_view known : paths) names.push_back(known.substr(known.rfind('.') + 1));
      nearest = nearest_name(path.substr(path.rfind('.') + 1), names);
      if (!nearest.empty()) nearest = schema::path_of_name(nearest);
    }
    wrong_key(place + "." + path, nearest.empty() ? "is not a known key of a run's file; `zerostep config --keys` lists them"
                                                  : fmt::format("is not a known key; the nearest is {}", nearest));
    return false;
  }

  std::string text(const json& block, const char* name, const std::string& otherwise) {
    if (!block.is_object() || !block.contains(name)) return otherwise;
    if (block[name].is_string()) return block[name].get<std::string>();
    wrong(name, fmt::format("is {}; a text is expected", schema::shown(block[name])));
    return otherwise;
  }

  void base(const json& root, SweepFile& out) {
    if (!root.contains("base")) return wrong("base", "is missing; the file of a run, or its configuration as a block, is expected");
    const json& base = root["base"];
    if (base.is_object()) {
      out.inline_base = base;
      return;
    }
    out.base = text(root, "base", "");
    // Beside the sweep file where it is not found from here.
    const std::filesystem::path beside = std::filesystem::path(document_.file).parent_path() / out.base;
    std::error_code error;
    if (!std::filesystem::exists(out.base, error) && std::filesystem::exists(beside, error)) out.base = beside.string();
    if (base.is_string() && !std::filesystem::is_regular_file(out.base, error))
      wrong("base", fmt::format("is '{}', which is no file: the file of a run is expected", out.base));
  }

  Grid grid(const json& block, const char* name, const std::string& place) {
    Grid out;
    if (!block.is_object() || !block.contains(name)) return out;
    const json& keys = block[name];
    if (!keys.is_object()) {
      wrong(place, fmt::format("is {}; keys with lists of values are expected", schema::shown(keys)));
      return out;
    }
    for (const auto& [path, list] : keys.items()) {
      if (!know_key(place, path)) continue;
      if (!list.is_array() || list.empty()) {
        wrong(place + "." + path, fmt::format("is {}; a list of values is expected, as in [1, 2, 4]", schema::shown(list)));
        continue;
      }
      std::vector<json> different;
      for (const json& value : list)
        if (std::find(different.begin(), different.end(), value) == different.end()) different.push_back(value);
      out.emplace_back(path, std::move(different));
    }
    return out;
  }

  KeyValues values(const json& block, const std::string& place) {
    KeyValues out;
    if (!block.is_object()) {
      wrong(place, fmt::format("is {}; keys with a value each are expected", schema::shown(block)));
      return out;
    }
    for (const auto& [path, value] : block.items())
      if (know_key(place, path)) out.emplace_back(path, value);
    return out;
  }

  template <typename Read>
  void each(const json& root, const std::string& name, const Read& read) {
    if (!root.contains(name)) return;
    if (!root[name].is_array()) return wrong(name, fmt::format("is {}; a list of blocks is expected", schema::shown(root[name])));
    for (size_t i = 0; i < root[name].size(); ++i) read(root[name][i], fmt::format("{}[{}]", name, i));
  }

  int64_t count(const json& block, const std::string& path, const char* name, int64_t otherwise, int64_t low, int64_t high) {
    if (!block.contains(name)) return otherwise;
    const json& value = block[name];
    if (value.is_number_integer() && value.get<int64_t>() >= low && value.get<int64_t>() <= high) return value.get<int64_t>();
    wrong(path + "." + name, fmt::format("is {}; an integer from {} to {} is expected", schema::shown(value), low, high));
    return otherwise;
  }

  void resources(const json& root, SweepResources& out) {
    if (!root.contains("resources")) return;
    const json& block = root["resources"];
    know("resources", block, {"ranks", "jobs", "gpus", "executor"});
    if (!block.is_object()) return;
    out.ranks = static_cast<int>(count(block, "resources", "ranks", 1, 1, 4096));
    out.jobs = static_cast<int>(count(block, "resources", "jobs", 0, 1, 4096));
    if (block.contains("gpus")) {
      bool good = block["gpus"].is_array();
      if (good)
        for (const json& gpu : block["gpus"])
          good = good && gpu.is_number_integer() && gpu.get<int64_t>() >= 0 && gpu.get<int64_t>() < 1024;
      if (good)
        out.gpus = block["gpus"].get<std::vector<int>>();
      else
        wrong("resources.gpus",
              fmt::format("is {}; a list of the numbers of GPUs is expected, as in [0, 1]", schema::shown(block["gpus"])));
    }
    if (!block.contains("executor")) return;
    if (block["executor"] == "slurm" || block["executor"] == "local")
      out.uses_slurm = block["executor"] == "slurm";
    else
      wrong("resources.executor", fmt::format("is {}; local or slurm is expected", schema::shown(block["executor"])));
  }

  void search(const json& root, SweepFile& out) {
    if (!root.contains("search")) return;
    const json& block = root["search"];
    know("search", block, {"kind", "metric", "rungs", "keep"});
    if (!block.is_object()) return;
    SweepSearch search;
    if (block.contains("kind") && block["kind"] != "halving")
      wrong("search.kind", fmt::format("is {}; halving is expected", schema::shown(block["kind"])));
    if (block.contains("metric")) {
      if (block["metric"].is_string())
        search.metric = block["metric"].get<std::string>();
      else
        wrong("search.metric", fmt::format("is {}; the name of a column of metrics.csv is expected", schema::shown(block["metric"])));
    }
    bool rises = block.contains("rungs") && block["rungs"].is_array() && block["rungs"].size() >= 2;
    if (rises)
      for (const json& rung : block["rungs"]) {
        rises = rises && rung.is_number_integer() && rung.get<int64_t>() > (search.rungs.empty() ? 0 : search.rungs.back());
        if (rises) search.rungs.push_back(rung.get<int64_t>());
      }
    if (!rises) wrong("search.rungs", "are expected to be rising numbers of steps, two or more, as in [100, 200, 400]");
    if (block.contains("keep")) {
      if (block["keep"].is_number() && block["keep"].get<double>() > 0 && block["keep"].get<double>() < 1)
        search.keep = block["keep"].get<double>();
      else
        wrong("search.keep", fmt::format("is {}; a share above 0 and below 1 is expected", schema::shown(block["keep"])));
    }
    out.search = std::move(search);
  }

  schema::Document document_;
  std::vector<std::string> errors_;
  size_t num_of_keys_ = 0;  // of these errors, what keys are that no run has
};

}  // namespace

SweepFile read_sweep_file(const std::string& file) {
  SweepFile out = Reader(schema::read_document(file, "sweep file")).read();
  if (out.asks.empty()) out.asks = asked_in_comment(read_file(file));
  return out;
}

}  // namespace zerostep
