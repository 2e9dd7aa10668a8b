#include "launch/fit.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/console.h"
#include "base/error.h"
#include "base/format.h"
#include "base/nth.h"
#include "base/program_name.h"
#include "launch/capacity.h"
#include "launch/commands/commands.h"
#include "launch/fit_options.h"
#include "launch/fit_text.h"
#include "launch/needed_folders.h"
#include "launch/replaceable.h"
#include "launch/run_folder.h"
#include "launch/target.h"
#include "offload/disk.h"
#include "runtime/config/values.h"
#include "runtime/report/prediction_report.h"

namespace zerostep {
namespace {

using nlohmann::ordered_json;
namespace fs = std::filesystem;

constexpr const char* kMadeBy = "// Made by `zerostep plan --fit`";
// A fit, and what it was made of.
struct Report {
  const PlanArguments& arguments;
  const Target& target;
  const MemoryLimit& limit;
  const FitResult& result;
};

std::string capacity_text(const Report& report) {
  const auto bytes = [](int64_t n) { return n == INT64_MAX ? std::string("any number of bytes") : human_bytes(n); };
  const TierBytes& capacity = report.result.capacity;
  std::string out = fmt::format("{} of device memory ({})", bytes(capacity.device), report.limit.source);
  if (report.limit.includes_host)
    out += ", which what rests on the host shares";
  else
    out += fmt::format(", {} of the host's", bytes(capacity.host));
  if (report.result.why_no_files.empty()) out += fmt::format(", {} in files", bytes(capacity.file));
  return out + fmt::format("; {:.0f} % of device memory are left to libraries{}", 100 * kShareOfLibraries,
                           report.target.is_here ? ", but beside the best, where what they take is measured" : "");
}

std::string fit_text(const Report& report) {
  const FitResult& result = report.result;
  std::string out =
      fmt::format("Fit of {} to {} of {}: {} combinations planned\n  a rank has {}\n", report.arguments.file,
                  counted(report.target.world, "rank"), report.target.machine->name, result.candidates.size(), capacity_text(report));
  if (report.target.machine->is_unsteady) out += fmt::format("  its figures were {}\n", unsteady_note());
  out += fmt::format("  chooses what the file leaves out or calls \"auto\": {}\n", result.chosen.empty()
                                                                                       ? "of the keys that it can choose there is none"
                                                                                       : fmt::format("{}", fmt::join(result.chosen, ", ")));
  if (!result.kept.empty()) out += fmt::format("  kept as the file gives them (\"auto\" frees them): {}\n", fmt::join(result.kept, ", "));
  if (!result.why_no_files.empty()) out += fmt::format("  nothing was tried in files: {}\n", result.why_no_files);
  if (result.batch_follows)
    out +=
        "  train_batch_size is not given and follows from the micro-batch, so that what is compared trains on batches of different sizes: "
        "give "
        "it a value to keep it\n";
  if (result.best >= 0) {
    const FitCandidate& best = nth(result.candidates, result.best);
    out += fmt::format("\nThe best: {}\n  predicted {}\n", options_text(result, best), speed_text(best));
    for (const FitSetting& setting : result.settings(best))
      out += fmt::format("  {} {}\n", setting.path, setting.value.is_null() ? "is left out" : "= " + setting.value.dump());
  }
  out += "\nThe best of each stage with its tiers: tokens a second, device memory, why it is not the best\n";
  for (const FitCandidate* c : result.placements())
    out += fmt::format("  {:>9}  {:>10}  {}\n                          {}\n", c->fits() ? human_count(c->tokens_per_second) : "-",
                       human_bytes(c->needed.device), options_text(result, *c), reason_text(result, *c));
  if (result.best < 0) return out;
  std::string others;
  for (const FitDimension d : kWithinPlacements)
    for (const FitCandidate* c : result.neighbours(d))
      others += fmt::format("  {}{}: {}\n", result.option(*c, d).name, with_filling(*c), reason_text(result, *c));
  return others.empty() ? out : out + "\nThe best with one thing changed\n" + others;
}

ordered_json bytes_json(const TierBytes& bytes) { return {{"device", bytes.device}, {"host", bytes.host}, {"file", bytes.file}}; }

ordered_json candidate_json(const FitResult& result, const FitCandidate& c) {
  ordered_json out{{"settings", ordered_json::object()}};
  for (const FitSetting& setting : result.settings(c)) out["settings"][setting.path] = setting.value;
  out["fits"] = c.fits();
  out["needed_bytes"] = bytes_json(c.needed);
  out["lacking_bytes"] = bytes_json(c.lacks);
  if (c.fits()) {
    out["step_seconds"] = c.step_seconds;
    out["tokens_per_second"] = c.tokens_per_second;
    out["bound_by"] = c.bound_by;
  }
  return out;
}

ordered_json fit_json(const Report& report) {
  const FitResult& result = report.result;
  ordered_json out{
      {"world", report.target.world}, {"machine", report.target.machine->name}, {"capacity_bytes", bytes_json(result.capacity)}};
  out["chosen"] = result.chosen;
  out["kept"] = result.kept;
  out["planned"] = result.candidates.size();
  out["best"] = result.best < 0 ? ordered_json(nullptr) : candidate_json(result, nth(result.candidates, result.best));
  for (const FitCandidate* c : result.placements()) out["placements"].push_back(candidate_json(result, *c));
  return out;
}

// A name for the run of the written file where another run lies in the folder of the name that was given; "": that one is free.
std::string free_name(const Config& config) {
  if (!config.run.is_named || config.run.overwrite || !is_folder_of_run(run_folder_path(config))) return "";
  Config renamed = config;
  for (int number = 1;; ++number) {
    renamed.run.name = config.run.name + (number == 1 ? "-fit" : fmt::format("-fit-{}", number));
    if (!fs::exists(run_folder_path(renamed))) return renamed.run.name;
  }
}

// The text of the file with the settings of the best and the name of its run ("": as it is), below a line that says where they are from.
std::string file_text(const Report& report, const std::string& name) {
  const PlanArguments& arguments = report.arguments;
  schema::Document document = schema::read_document(arguments.file, arguments.set);
  const FitCandidate& best = nth(report.result.candidates, report.result.best);
  for (const FitSetting& setting : report.result.settings(best)) schema::apply_setting(document, {setting.text(), kFromFit});
  // What the file leaves to the search as "auto" and the best does not set has its default.
  for (const std::string& path : report.result.chosen)
    for (size_t dot = path.find('.'); dot != std::string::npos; dot = path.find('.', dot + 1)) {
      std::string block = "/" + path.substr(0, dot);
      std::replace(block.begin(), block.end(), '.', '/');
      const nlohmann::json::json_pointer at(block);
      if (document.root.contains(at) && document.root[at] == "auto")
        schema::apply_setting(document, {path.substr(0, dot) + "=null", kFromFit});
    }
  if (!name.empty()) schema::apply_setting(document, {"run.name=" + name, kFromFit});
  return fmt::format("{} from {} for {} of {}: predicted {}.\n{}\n", kMadeBy, schema::printable(arguments.file),
                     counted(report.target.world, "rank"), schema::printable(report.target.machine->name), speed_text(best),
                     document.root.dump(2));
}

// Whether the file leaves the stage to the search.
bool leaves_stage(const PlanArguments& arguments) {
  const auto is_left = [](const nlohmann::json& block, const char* name) {
    return !block.contains(name) || block[name].is_null() || block[name] == "auto";
  };
  schema::Document document = schema::read_document(arguments.file, arguments.set);
  if (is_left(document.root, "zero_optimization")) return true;
  const nlohmann::json& zero = document.root["zero_optimization"];
  return zero.is_object() && is_left(zero, "stage");
}

// Warnings of the configuration that the search has come to: what has an effect depends on what it chose.
void print_warnings_of(const FitCandidate& candidate, const FitResult& result, ConfigArguments arguments, int world) {
  for (const FitSetting& setting : result.settings(candidate)) arguments.set.push_back({setting.text(), kFromFit});
  print_warnings(load_subject(arguments, {.world = world}).loaded);
}

}  // namespace

int fit(const PlanArguments& arguments) {
  Target target = target_of(arguments);
  const bool stage_is_free = leaves_stage(arguments);
  ConfigArguments loaded = arguments;
  if (stage_is_free) loaded = at_widest_stage(loaded, kFromFit);
  const Subject subject = load_subject(loaded, {.world = target.world, .has_gpu = target.has_gpu()});
  const Config& config = subject.config();
  settle_target(target, config);
  if (!target.machine) fail_without_times("--fit", target.why_untimed);
  data_files(config);
  const std::string path = arguments.out.empty() ? fs::path(arguments.file).replace_extension(".fit.json").string() : arguments.out;
  check_replaceable("--out", path, kMadeBy);
  const MemoryLimit limit = memory_limit(config, target, arguments);
  WorkspaceMeter workspaces(WorkspaceMeter::default_file(), target.is_here ? device_of_plan(config) : Device::cpu());
  const bool shows_progress = ::isatty(STDERR_FILENO) != 0;
  std::function<void(int)> progress;
  if (shows_progress) progress = [](int planned) { show_status(fmt::format("{} combinations planned", planned)); };
  const FitRequest request{.arguments = arguments,
                           .world = target.world,
                           .stage_is_free = stage_is_free,
                           .machine = &*target.machine,
                           .capacity = capacity(config, target, limit),
                           .why_no_folders = target.is_here ? why_no_folders(config) : "",
                           .includes_host = limit.includes_host,
                           .meter = target.is_here ? &workspaces : nullptr,
                           .progress = progress};
  const FitResult result = find_fit(subject, request);
  if (shows_progress) show_status("");
  print_warnings_of(result.best < 0 ? *result.placements().front() : nth(result.candidates, result.best), result, arguments, target.world);
  const Report report{arguments, target, limit, result};
  if (arguments.json)
    print_out("{}\n", fit_json(report).dump(2));
  else
    print_out(visible(fit_text(report)));
  if (result.best < 0) throw InputError(nowhere_text(result, arguments.file, target.world, target.machine->name));
  const std::string name = free_name(config);
  write_durably(Disk::real(), path, file_text(report, name));
  std::string done = name.empty() ? "\n" : fmt::format("\n{} holds a run: the next one is named {}\n", run_folder_path(config), name);
  done += fmt::format("wrote {}: {}{} train {}\n", path, target.world > 1 ? fmt::format("mpirun -np {} ", target.world) : "",
                      program_name(), shell_word(path));
  if (target.world > target.ranks_of_host)
    done += fmt::format("it is for {} of {}: `launch/hosts.sh HOSTFILE --ranks {} -- train {}` starts it there\n",
                        counted((target.world + target.ranks_of_host - 1) / target.ranks_of_host, "host"),
                        counted(target.ranks_of_host, "rank"), target.ranks_of_host, shell_word(path));
  if (arguments.json)
    print_err(done);
  else
    print_out(visible(done));
  return kDone;
}

}  // namespace zerostep
