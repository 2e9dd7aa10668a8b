#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>

#include "base/console.h"
#include "base/error.h"
#include "base/first_names.h"
#include "base/format.h"
#include "experiments/housekeeping/archive.h"
#include "experiments/housekeeping/run_files.h"
#include "experiments/report/absent_runs.h"
#include "experiments/sweep/journal.h"
#include "experiments/text/text_table.h"
#include "experiments/watch/run_status.h"
#include "launch/commands/commands.h"
#include "runtime/checkpoint/checkpoint_folders.h"
#include "runtime/report/columns.h"
#include "runtime/report/folder_lock.h"

namespace zerostep {
namespace fs = std::filesystem;
namespace {

std::string number_text(double value) { return std::isfinite(value) ? fmt::format("{:.5g}", value) : "-"; }

// Why a run has ended as it has: what fits into a column of a table.
std::string reason_of(const RunStatus& status) {
  constexpr int kColumns = 60;
  std::string why = status.unread.empty() ? status.state == RunState::Running ? "" : visible(status.why) : visible(status.unread);
  why = why.substr(0, why.find('\n'));
  return columns_of_text(why) > kColumns ? std::string(first_columns(why, kColumns - 3)) + "..." : why;
}

// Runs with a folder: a CSV alone is nobody's to change.
std::vector<RunRecord> runs_with_folders(const std::string& place) {
  if (std::error_code error; !fs::is_directory(place, error))
    fail_input("{} is no folder: a run's folder, or a folder of runs, is expected", place);
  return find_runs({place});
}

int64_t bytes_of(const fs::path& file) {
  std::error_code error;
  const auto bytes = fs::file_size(file, error);
  return error ? 0 : static_cast<int64_t>(bytes);
}

struct Total {
  int64_t count = 0, bytes = 0, left_alone = 0;
  void add(int64_t more) {
    ++count;
    bytes += more;
  }
  // What has become of them: "2 runs, 3 MiB (3,145,728 bytes) are packed; 1 run left alone".
  std::string line(const char* what, const char* fate) const {
    return fmt::format("{}, {} ({} bytes) {}{}\n", counted(count, what), human_bytes(bytes), grouped(bytes), fate,
                       left_alone > 0 ? fmt::format("; {} left alone", counted(left_alone, "run")) : "");
  }
};

// Why nothing is done to a run that was found below `place`: "" and its lock, or the reason.
std::string refusal_of(const RunRecord& run, const std::string& place, bool dry_run, Claim& claim) {
  std::error_code error;
  if (const fs::path link = link_on_way(place, run.folder); !link.empty())
    return fmt::format("is left alone: {} is a link to {}, which is not followed", link.string(), fs::read_symlink(link, error).string());
  if (run.state == RunState::Running) return "is running: left alone";
  if (FolderLock::is_owned(run.folder.parent_path().string())) return "belongs to a sweep that is going on: left alone";
  if (dry_run) return "";
  claim = claim_run(run.folder);
  return claim.why_not.empty() ? "" : "is left alone: " + claim.why_not;
}

}  // namespace

int list_runs(const RunsArguments& arguments) {
  const double now = std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
  struct Listed {
    RunStatus status;
    int64_t bytes, checkpoint_bytes;
  };
  std::vector<Listed> runs;
  std::error_code error;
  std::vector<std::string> notes;
  std::vector<AbsentRun> not_begun = without_archived(find_absent_runs(arguments.places, notes));
  for (const std::string& note : notes) print_err("warning: {}\n", note);
  for (const RunRecord& run : find_runs_beside(arguments.places, not_begun))
    runs.push_back({status_of(run, now), run.folder.empty() ? bytes_of(run.metrics) : bytes_below(run.folder),
                    run.folder.empty() || fs::is_symlink(run.folder / "checkpoints", error) ? 0 : bytes_below(run.folder / "checkpoints")});
  for (const AbsentRun& run : not_begun) {
    RunStatus status;
    status.name = run.record.name;
    status.folder = run.record.folder.string();
    status.state = run.record.state;
    status.why = run.record.why;
    runs.push_back({std::move(status), 0, 0});
  }
  if (arguments.json) {
    nlohmann::ordered_json objects = nlohmann::ordered_json::array();
    for (const Listed& run : runs) {
      nlohmann::ordered_json object = status_json(run.status);
      object.erase("load");
      object["bytes"] = run.bytes;
      object["checkpoint_bytes"] = run.checkpoint_bytes;
      objects.push_back(std::move(object));
    }
    print_out("{}\n", objects.dump(1, ' ', false, nlohmann::ordered_json::error_handler_t::replace));
    return kDone;
  }
  // Columns of what only classifiers have stand where there is one.
  const bool have_accuracies =
      std::any_of(runs.begin(), runs.end(), [](const Listed& run) { return std::isfinite(run.status.eval_accuracy); });
  TextTable table(TextTable::kAll);
  const auto add = [&](std::vector<std::string> cells, const std::vector<std::string>& of_accuracy, const std::vector<std::string>& more) {
    if (have_accuracies) cells.insert(cells.end(), of_accuracy.begin(), of_accuracy.end());
    cells.insert(cells.end(), more.begin(), more.end());
    table.add(std::move(cells));
  };
  add({"run", "state", "steps", "last loss", "final loss", "best evaluation"}, {"last accuracy", "best accuracy"},
      {"size", "of it checkpoints", "why"});
  int64_t bytes = 0;
  for (const Listed& run : runs) {
    const RunStatus& status = run.status;
    bytes += run.bytes;
    std::string steps = fmt::format("{}", status.step + 1);
    if (status.total > 0) steps += fmt::format("/{}", status.total);
    add({visible(status.name), std::string(name_of(status.state)), steps, number_text(status.last_loss), number_text(status.final_loss),
         number_text(status.best_eval_loss)},
        {number_text(status.eval_accuracy), number_text(status.best_eval_accuracy)},
        {human_bytes(run.bytes), human_bytes(run.checkpoint_bytes), reason_of(status)});
  }
  print_out("{}{}, {}\n", table.text(), counted(std::ssize(runs), "run"), human_bytes(bytes));
  return kDone;
}

int prune_runs(const RunsArguments& arguments) {
  Total total;
  for (const RunRecord& run : runs_with_folders(arguments.folder)) {
    Claim claim;
    if (const std::string why = refusal_of(run, arguments.folder, arguments.dry_run, claim); !why.empty()) {
      print_out("{} {}\n", visible(run.name), visible(why));
      ++total.left_alone;
      continue;
    }
    std::vector<CheckpointFolder> checkpoints;
    try {
      checkpoints = checkpoints_of(run.folder, arguments.keep);
    } catch (const InputError& error) {
      print_out("{} is left alone: {}\n", visible(run.name), visible(error.what()));
      ++total.left_alone;
      continue;
    }
    std::string kept;
    Total of_run;
    for (const CheckpointFolder& checkpoint : checkpoints) {
      const std::string name = checkpoint.path.filename().string();
      if (!checkpoint.kept.empty()) {
        kept += fmt::format("{}{} ({})", kept.empty() ? "" : ", ", name, checkpoint.kept);
        continue;
      }
      if (!arguments.dry_run) remove_checkpoint(Disk::real(), checkpoint.path);
      print_out("{} {} {}: {}\n", visible(run.name), name, arguments.dry_run ? "would go" : "is gone", human_bytes(checkpoint.bytes));
      of_run.add(checkpoint.bytes);
      total.add(checkpoint.bytes);
    }
    if (of_run.count > 0 || !kept.empty()) print_out("{} keeps {}\n", visible(run.name), kept.empty() ? "no checkpoint" : kept);
  }
  print_out(total.line("checkpoint", arguments.dry_run ? "would go: nothing was changed" : total.count == 1 ? "is gone" : "are gone"));
  return kDone;
}

namespace {

fs::path archive_of(const RunRecord& run, const RunsArguments& arguments) {
  const fs::path folder = fs::weakly_canonical(run.folder);
  if (arguments.out.empty()) return default_archive(folder);
  std::string name = run.name;
  std::replace(name.begin(), name.end(), '/', '_');
  return fs::path(arguments.out) / (name + ".tar");
}

// So that the sweep of a run that is one's knows that the run is kept, though its folder may go.
void tell_sweep(const RunRecord& run, const fs::path& folder, const fs::path& archive) {
  const fs::path journal = folder.parent_path() / Journal::kFile;
  if (std::error_code error; !fs::is_regular_file(journal, error)) return;
  const FolderLock lock(folder.parent_path().string(), "folder");
  Journal(journal).archived(folder.filename().string(), fs::absolute(archive).string(), run.state == RunState::Done);
}

// Before the first is packed, so that all are or none.
void check_archives(const std::vector<RunRecord>& runs, const RunsArguments& arguments) {
  std::set<fs::path> taken;
  for (const RunRecord& run : runs) {
    if (!link_on_way(arguments.folder, run.folder).empty()) continue;  // which are not packed
    const fs::path archive = archive_of(run, arguments);
    check_is_new(archive);
    for (const RunRecord& other : runs) check_lies_outside(archive, other.folder);
    if (!taken.insert(archive).second)
      fail_input("runs archive: two runs would be packed as {}: name their folders one after the other", archive.string());
  }
}

// "; 2 links are packed as links, what they name is not: a (to /x), b (to /y)".
std::string links_text(const std::vector<std::pair<std::string, std::string>>& links, bool dry_run) {
  if (links.empty()) return "";
  std::vector<std::string> names;
  for (const auto& [path, target] : links) names.push_back(fmt::format("{} (to {})", path, target));
  return fmt::format("; {} {} as {}, and what {} is not: {}", counted(std::ssize(links), "link"),
                     dry_run             ? "would be packed"
                     : links.size() == 1 ? "is packed"
                                         : "are packed",
                     links.size() == 1 ? "a link" : "links", links.size() == 1 ? "it names" : "they name", first_names(names));
}

// "; left out, since neither files nor folders: a, b".
std::string left_out_text(const std::vector<std::string>& left_out) {
  return left_out.empty() ? "" : fmt::format("; left out, since neither files nor folders: {}", first_names(left_out));
}

}  // namespace

int archive_runs(const RunsArguments& arguments) {
  if (arguments.remove && arguments.without_checkpoints)
    fail_input(
        "runs archive: --remove would remove the checkpoints that --without-checkpoints leaves out of the archive: give one of them");
  Total total;
  const std::vector<RunRecord> runs = runs_with_folders(arguments.folder);
  check_archives(runs, arguments);
  for (const RunRecord& run : runs) {
    Claim claim;
    if (const std::string why = refusal_of(run, arguments.folder, arguments.dry_run, claim); !why.empty()) {
      print_out("{} {}\n", visible(run.name), visible(why));
      ++total.left_alone;
      continue;
    }
    const fs::path folder = fs::weakly_canonical(run.folder);
    const fs::path archive = archive_of(run, arguments);
    const ArchiveContents contents = arguments.dry_run ? contents_to_archive(folder, !arguments.without_checkpoints)
                                                       : archive_run(folder, archive, !arguments.without_checkpoints);
    const std::string links = links_text(contents.links, arguments.dry_run) + left_out_text(contents.left_out);
    int64_t bytes = 0;
    for (const ArchivedFile& file : contents.files) bytes += file.bytes;
    total.add(bytes);
    if (!arguments.dry_run) tell_sweep(run, folder, archive);
    if (arguments.remove && !arguments.dry_run) fs::remove_all(folder);
    print_out("{} {} {}: {}, {}{}{}\n", visible(run.name), arguments.dry_run ? "would be packed as" : "is packed as",
              visible(archive.string()), counted(std::ssize(contents.files), "file"), human_bytes(bytes), visible(links),
              arguments.dry_run ? (arguments.remove ? "; its folder would go" : "")
                                : (arguments.remove ? "; read back and compared; its folder is gone" : "; read back and compared"));
    flush_out();
  }
  print_out(total.line("run", arguments.dry_run ? "would be packed: nothing was written" : total.count == 1 ? "is packed" : "are packed"));
  return kDone;
}

}  // namespace zerostep
