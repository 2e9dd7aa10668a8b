#include "experiments/report/plot.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <ctime>
#include <filesystem>
#include <limits>
#include <map>
#include <set>

#include "base/error.h"
#include "base/first_names.h"
#include "base/nearest_name.h"
#include "experiments/plot/cairo_library.h"
#include "experiments/plot/data_file.h"
#include "experiments/plot/draw_picture.h"
#include "experiments/plot/place_picture.h"
#include "experiments/plot/views.h"
#include "experiments/report/absent_runs.h"
#include "experiments/report/report.h"
#include "runtime/report/output_file.h"

namespace zerostep {
namespace fs = std::filesystem;
namespace {

std::vector<const View*> views_of(const PlotRequest& request) {
  std::vector<std::string_view> names;
  for (const View& view : all_views()) names.push_back(view.name);
  std::vector<const View*> out;
  for (const std::string& wanted : request.views) {
    const auto it = std::find(names.begin(), names.end(), wanted);
    if (it == names.end())
      fail_input("--view {}: there is no such view{} Views are {}", wanted, did_you_mean(wanted, names), fmt::join(names, ", "));
    const View* view = &all_views()[static_cast<size_t>(it - names.begin())];
    if (std::find(out.begin(), out.end(), view) == out.end()) out.push_back(view);
  }
  if (out.empty())
    for (const View& view : all_views()) out.push_back(&view);
  return out;
}

void check_formats(const PlotRequest& request) {
  for (const std::string& format : request.formats)
    if (format != "svg" && format != "png" && format != "pdf")
      fail_input("--format {}: expected svg, png or pdf, or several with commas", format);
}

// The columns that the views, the axis and the summary read.
std::vector<std::string_view> columns_to_read(const PlotRequest& request, const std::vector<const View*>& views, const XAxis& axis) {
  std::set<std::string_view> out;
  const auto add = [&](const std::vector<std::string_view>& columns) { out.insert(columns.begin(), columns.end()); };
  add(columns_of_summary());
  add(columns_of(axis));
  for (const View* view : views) add(view->columns);
  for (const std::string& column : request.y) out.insert(column);
  return {out.begin(), out.end()};
}

constexpr std::array<std::string_view, 5> kAxes{"step", "seconds", "tokens", "forwards", "bytes"};

// Whether a column has a number in any run. A column that no file has is a mistake. `names`: what the option may be besides.
bool has_numbers(const std::vector<PlotRun>& runs, const std::string& option, const std::string& column,
                 std::vector<std::string_view> names = {}) {
  bool is_there = false;
  for (const PlotRun& run : runs) {
    if (run.has_values(column)) return true;
    for (const std::string& name : run.table.columns()) {
      is_there |= name == column;
      if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
    }
  }
  if (is_there) return false;
  fail_input("{} {}: no such column{} There are {}", option, column, did_you_mean(column, names), fmt::join(names, ", "));
}

constexpr const char* kNoNumber = "the column has no number in any row of these runs";

// The columns of --y that have numbers, with a note of the others; InputError where none has.
std::vector<std::string> columns_with_numbers(const std::vector<PlotRun>& runs, const std::vector<std::string>& columns,
                                              std::vector<std::string>& notes) {
  std::vector<std::string> out, empty;
  for (const std::string& column : columns) (has_numbers(runs, "--y", column) ? out : empty).push_back(column);
  if (out.empty() && !columns.empty()) fail_input("--y {}: {}", columns[0], kNoNumber);
  for (const std::string& column : empty) notes.push_back(fmt::format("--y {}: {}, and is left out", column, kNoNumber));
  return out;
}

// A run of one rank receives nothing: its curves would be a line at 0. Takes them out, with a note; InputError where no run moves any.
void leave_out_runs_without_bytes(PlotInput& input, std::vector<std::string>& notes) {
  if (input.x.name != "bytes") return;
  std::vector<std::string> names;
  int64_t with_bytes = 0;
  for (size_t i = 0; i < input.runs.size(); ++i) {
    std::vector<double>& x = input.x_values[i];
    if (x.empty()) continue;
    if (x.back() > 0) {
      ++with_bytes;
      continue;
    }
    std::fill(x.begin(), x.end(), std::numeric_limits<double>::quiet_NaN());
    names.push_back(input.runs[i].record.name);
  }
  if (names.empty()) return;
  constexpr const char* kWhy = "between ranks, as no run of one rank does";
  if (with_bytes == 0)
    fail_input(
        "--x bytes: these runs have moved none {}, so there is nothing to draw over them; take --x step, seconds, tokens or forwards",
        kWhy);
  notes.push_back(fmt::format("--x bytes: the curves of {} are left out: nothing moved {}", first_names(names), kWhy));
}

// Which runs no mean and no ranking counts, where there are others.
void note_flaws(const std::vector<PlotRun>& runs, std::vector<std::string>& notes) {
  std::vector<std::string> flawed;
  for (const PlotRun& run : runs)
    if (const std::string flaw = run.flaw(); !flaw.empty()) flawed.push_back(fmt::format("{} ({})", run.record.name, flaw));
  if (!flawed.empty() && runs.size() > 1)
    notes.push_back(
        fmt::format("means leave out runs that failed, were killed or diverged, where a group has others, and so does the list "
                    "of the best: {}",
                    first_names(flawed)));
}

std::vector<std::string> names_of_archived(const std::vector<AbsentRun>& absent) {
  std::vector<std::string> out;
  for (const AbsentRun& run : absent)
    if (run.is_archived()) out.push_back(fmt::format("{} ({})", run.record.name, run.archive));
  return out;
}

// InputError where all runs of a place are archived.
void require_runs(const PlotRequest& request, const std::vector<AbsentRun>& absent) {
  for (const std::string& place : request.places) {
    std::error_code error;
    const fs::path folder = fs::weakly_canonical(place, error);
    const auto is_of = [&](const AbsentRun& run) { return run.is_archived() && run.record.folder.parent_path() == folder; };
    if (std::any_of(absent.begin(), absent.end(), is_of) &&
        std::none_of(fs::directory_iterator(folder, error), fs::directory_iterator(),
                     [](const fs::directory_entry& entry) { return holds_run(entry.path()); }))
      fail_input("{}: all of its runs are archived, so there is nothing to draw: {}. Unpack one into the folder (tar --extract --file)",
                 place, first_names(names_of_archived(absent)));
  }
}

// Which runs have a row but no curve, since their folders are gone.
void note_archived(const std::vector<AbsentRun>& absent, std::vector<std::string>& notes) {
  const std::vector<std::string> names = names_of_archived(absent);
  if (names.empty()) return;
  notes.push_back(fmt::format("{} archived: {} without curves, with the figures of the sweep's journal: {}",
                              names.size() == 1 ? "1 run is" : fmt::format("{} runs are", names.size()),
                              names.size() == 1 ? "its row is" : "their rows are", first_names(names)));
}

// Which runs of a sweep have a row and nothing else, since they have not come to a step.
void note_not_begun(const std::vector<AbsentRun>& runs, std::vector<std::string>& notes) {
  if (runs.empty()) return;
  std::vector<std::string> names;
  for (const AbsentRun& run : runs) names.push_back(fmt::format("{} ({})", run.record.name, name_of(run.record.state)));
  notes.push_back(fmt::format("{} come to no step and {} a row alone: {}",
                              names.size() == 1 ? "1 run has" : fmt::format("{} runs have", names.size()),
                              names.size() == 1 ? "has" : "have", first_names(names)));
}

std::string x_of(const PlotRequest& request) { return request.x.empty() ? "step" : request.x; }

PlotInput read_input(const PlotRequest& request, const std::vector<const View*>& views, std::vector<RunRecord> runs,
                     std::vector<std::string>& notes) {
  PlotInput out;
  out.x = x_axis(x_of(request));
  out.runs = load_runs(std::move(runs), columns_to_read(request, views, out.x), request.threads, notes);
  out.y = columns_with_numbers(out.runs, request.y, notes);
  const bool is_column = std::find(kAxes.begin(), kAxes.end(), out.x.name) == kAxes.end();
  if (is_column && !has_numbers(out.runs, "--x", request.x, {kAxes.begin(), kAxes.end()})) fail_input("--x {}: {}", request.x, kNoNumber);
  for (const PlotRun& run : out.runs) {
    out.x_values.push_back(run.record.may_read_metrics ? x_values(run, out.x) : std::vector<double>());
    notes.insert(notes.end(), run.table.notes().begin(), run.table.notes().end());
  }
  leave_out_runs_without_bytes(out, notes);
  note_flaws(out.runs, notes);
  if (!request.by.empty()) out.by = path_of_key(out.runs, request.by);
  out.smooth = request.smooth;
  out.is_log = request.is_log;
  return out;
}

// A picture with its pixels, and as a narrow page has it.
struct DrawnPicture {
  PlacedPicture wide;
  std::string narrow;
};

DrawnPicture drawn(Picture picture, PictureSize size) {
  constexpr double kNarrow = 430;  // a page as wide as a phone
  DrawnPicture out;
  out.narrow = svg_of(place_picture(picture, {kNarrow, narrow_height(picture, kNarrow)}), true);
  out.wide = place_picture(std::move(picture), size);
  return out;
}

// Steps of such runs cost different things: what one has come to at equal steps says little.
bool steps_differ(const std::vector<PlotRun>& runs) {
  const std::vector<std::string> differing = differing_keys(keys_of(runs));
  return std::any_of(differing.begin(), differing.end(), [](const std::string& key) {
    return key == "step.mode" || key == "step.queries" || key == "step.estimator" || key == "step.zo_steps" || key == "step.bp_interval";
  });
}

// What the loss is drawn over beside steps, by the names of axes, and in a title.
constexpr std::array<std::pair<const char*, const char*>, 2> kCosts{{{"seconds", "seconds"}, {"forwards", "forward passes"}}};

// Puts an axis into the place of the one that an input has. Runs that do not tell it have no place on it, which a note says; false where
// none does.
bool set_axis(PlotInput& input, const char* name, std::vector<std::string>& notes) {
  input.x = x_axis(name);
  std::vector<std::string> without;
  bool any_tells = false;
  for (size_t i = 0; i < input.runs.size(); ++i) {
    std::vector<double>& x = input.x_values[i];
    if (x.empty()) continue;
    try {
      x = x_values(input.runs[i], input.x);
      any_tells = true;
    } catch (const InputError&) {
      std::fill(x.begin(), x.end(), std::numeric_limits<double>::quiet_NaN());
      without.push_back(input.runs[i].record.name);
    }
  }
  if (any_tells && !without.empty())
    notes.push_back(
        fmt::format("the pictures over {} are without the curves of {}, whose steps do not tell them", name, first_names(without)));
  return any_tells;
}

// The loss and its means over what steps cost, each behind the picture over steps; of more runs than a picture can name the means alone.
// Takes the input's axis.
void add_pictures_over_costs(const PlotRequest& request, PlotInput& input, std::vector<DrawnPicture>& pictures,
                             std::vector<std::string>& notes) {
  input.only_curves = true;
  const auto place_of = [&](const std::string& name) {
    return std::find_if(pictures.begin(), pictures.end(), [&](const DrawnPicture& other) { return other.wide.head.name == name; });
  };
  constexpr size_t kMostCurves = 24;
  std::map<std::string, std::string> before{{"compare", "compare"}};
  if (input.runs.size() <= kMostCurves) before["loss"] = "loss";
  for (const auto& [axis, words] : kCosts) {
    if (!set_axis(input, axis, notes)) continue;
    for (const View& view : all_views()) {
      const auto last = before.find(std::string(view.name));
      if (last == before.end() || place_of(last->second) == pictures.end()) continue;
      std::optional<Picture> picture = view.make(input);
      if (!picture) continue;
      picture->is_grouped = !input.by.empty();
      picture->name += fmt::format("-{}", axis);
      picture->title += fmt::format(" over {}", words);
      const auto place = place_of(last->second) + 1;
      last->second = picture->name;
      pictures.insert(place, drawn(std::move(*picture), request.size));
    }
  }
}

// `may_be_none`: where nothing can be drawn the rest is written all the same, and a note says so.
std::vector<DrawnPicture> pictures_of(const PlotRequest& request, const std::vector<const View*>& views, PlotInput& input, bool may_be_none,
                                      std::vector<std::string>& notes) {
  std::vector<DrawnPicture> out;
  const bool has_costs = request.x.empty() && request.views.empty() && steps_differ(input.runs);
  for (const View* view : views) {
    if (input.runs.empty()) break;
    // What compares runs says nothing of one.
    if (request.views.empty() && input.runs.size() == 1 && (view->name == "overview" || view->name == "compare")) continue;
    std::optional<Picture> picture = view->make(input);
    if (!picture && !request.views.empty())
      fail_input("--view {}: these runs have nothing to show there; it needs {}", view->name, view->needs);
    if (!picture) continue;
    picture->is_grouped = !input.by.empty();
    if (has_costs && (view->name == "loss" || view->name == "compare")) picture->title += " over steps";
    out.push_back(drawn(std::move(*picture), request.size));
  }
  if (has_costs) add_pictures_over_costs(request, input, out, notes);
  if (!out.empty() || request.formats.empty()) return out;
  if (!may_be_none) fail_input("these runs have no step with a number to draw yet: {}", fmt::join(request.places, ", "));
  notes.emplace_back("there is no picture, since no run has a step with a number to draw yet");
  return out;
}

// The bytes of a PNG or PDF file.
std::string cairo_file(const std::string& format, const PlacedPicture& picture) {
  const std::unique_ptr<Canvas> canvas = make_cairo_canvas(format, picture.size.width, picture.size.height, picture.head.title);
  draw(picture, *canvas);
  return canvas->finish();
}

std::string folder_of(const PlotRequest& request) {
  std::error_code error;
  if (!request.out.empty()) return request.out;
  if (request.places.size() == 1 && fs::is_directory(request.places[0], error)) return (fs::path(request.places[0]) / "plots").string();
  return "plots";
}

void make_folder(const std::string& folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (!fs::is_directory(folder))
    fail_input("the folder {} cannot be made: {}; --out names another", folder, error ? error.message() : "it is a file");
}

std::string time_now() {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  localtime_r(&now, &parts);
  return fmt::format("{:04}-{:02}-{:02} {:02}:{:02}", parts.tm_year + 1900, parts.tm_mon + 1, parts.tm_mday, parts.tm_hour, parts.tm_min);
}

// That a picture has no room for names of its curves and rows, and where they are.
void note_unnamed(const PlacedPicture& picture, std::vector<std::string>& notes) {
  if (picture.unnamed.empty()) return;
  notes.push_back(
      fmt::format("{0}: the picture has no room for {1} of {2} names: {3}. {0}.tsv has all names with their colors; a larger --size, fewer "
                  "runs or --by KEY leave room for more",
                  picture.head.name, picture.unnamed.size(), picture.names.size(), first_names(picture.unnamed)));
}

}  // namespace

PlotResult plot(const PlotRequest& request) {
  const std::vector<const View*> views = views_of(request);
  check_formats(request);
  PlotResult out;
  std::vector<AbsentRun> absent = find_absent_runs(request.places, out.notes);
  require_runs(request, absent);
  std::vector<RunRecord> found = find_runs_beside(request.places, absent);
  const std::vector<AbsentRun> not_begun = without_archived(absent);
  note_archived(absent, out.notes);
  note_not_begun(not_begun, out.notes);
  PlotInput input = read_input(request, views, std::move(found), out.notes);
  std::vector<DrawnPicture> pictures = pictures_of(request, views, input, request.is_of_sweep || !not_begun.empty(), out.notes);
  out.summary = summarize(input.runs, absent);
  out.folder = folder_of(request);
  make_folder(out.folder);
  const auto write = [&](const std::string& name, const std::string& content) {
    write_file((fs::path(out.folder) / name).string(), content);
    out.files.push_back(name);
  };
  const auto wants = [&](const char* format) {
    return std::find(request.formats.begin(), request.formats.end(), format) != request.formats.end();
  };

  Report report;
  report.title = request.places.size() == 1 ? fs::path(request.places[0]).lexically_normal().string() : "Runs";
  report.asked = request.command;
  report.made = time_now();
  report.questions = sweep_questions(input.runs, absent, out.notes);
  report.notes = out.notes;
  for (DrawnPicture& picture : pictures) {
    const std::string& name = picture.wide.head.name;
    Report::Figure figure{name, picture.wide.head.title, svg_of(picture.wide, true), std::move(picture.narrow)};
    if (wants("svg")) write(name + ".svg", svg_of(picture.wide, false));
    if (!request.formats.empty()) write(name + ".tsv", data_of(picture.wide));
    if (!request.formats.empty()) note_unnamed(picture.wide, out.notes);
    report.figures.push_back(std::move(figure));
  }
  write("summary.csv", summary_csv(out.summary));
  write("summary.txt", summary_text(out.summary));
  write("report.html", report_html(report, out.summary));
  // Last, so that the rest is there where cairo is not; the pictures are then there as SVG.
  for (const char* format : {"png", "pdf"})
    for (const DrawnPicture& picture : pictures) {
      if (!wants(format)) continue;
      std::string bytes;
      try {
        bytes = cairo_file(format, picture.wide);
      } catch (const RunError& error) {
        if (!wants("svg"))
          for (const DrawnPicture& other : pictures) write(other.wide.head.name + ".svg", svg_of(other.wide, false));
        fail_run("{}. The pictures are written as SVG to {}, with everything else", error.what(), out.folder);
      }
      write(picture.wide.head.name + "." + format, bytes);
    }
  return out;
}

}  // namespace zerostep
