#include "experiments/sweep/screens.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>

#include "base/console.h"
#include "base/format.h"
#include "experiments/plot/short_labels.h"
#include "experiments/records/last_row.h"
#include "experiments/sweep/halving.h"
#include "experiments/text/live_lines.h"
#include "runtime/report/columns.h"
#include "runtime/report/run_log.h"

namespace zerostep {
namespace {

using Clock = std::chrono::steady_clock;

// The cells of a line of the table.
enum Column : size_t { kRun, kState, kStep, kLoss, kSpeed, kLeft, kNumColumns };
using Cells = std::array<std::string, kNumColumns>;

// The lines of a table, whose first one is its head. Columns have room for what comes into them as runs go on, where names leave any.
// Where they do not the columns are as wide as what stands in them, then the speed is left out, then names are shortened.
std::vector<std::string> lines_of(std::vector<Cells> table, int columns) {
  constexpr std::array<int, kNumColumns> kRoomy{3, 11, 13, 9, 10, 8};
  constexpr int kReadable = 16, kLeast = 4;  // columns of a name
  std::array<int, kNumColumns> widths{};
  const auto widest = [&](size_t column) {
    int out = 0;
    for (const Cells& cells : table) out = std::max(out, columns_of_text(cells[column]));
    return out;
  };
  const auto room_for_names = [&] {
    int out = columns - 1;  // a blank more stands behind them
    for (size_t i = kState; i < kNumColumns; ++i) out -= widths[i] > 0 ? widths[i] + 1 : 0;
    return out;
  };
  const int wanted = widest(kRun);
  for (size_t i = kState; i < kNumColumns; ++i) widths[i] = std::max(widest(i), kRoomy[i]);
  if (room_for_names() < wanted) {
    table.front()[kLoss] = "loss";
    for (size_t i = kState; i < kNumColumns; ++i) widths[i] = widest(i);
  }
  if (room_for_names() < std::min(wanted, kReadable)) widths[kSpeed] = 0;
  widths[kRun] = std::min(std::max(wanted, kRoomy[kRun]), std::max(kLeast, room_for_names()));
  std::vector<std::string> names, out;
  for (size_t i = 1; i < table.size(); ++i) names.push_back(std::move(table[i][kRun]));
  names = short_labels(names, columns_of_text, widths[kRun]).texts;
  for (size_t i = 1; i < table.size(); ++i) table[i][kRun] = std::move(names[i - 1]);
  for (const Cells& cells : table) {
    std::string& line = out.emplace_back(fmt::format("{:<{}} ", cells[kRun], widths[kRun]));
    line += fmt::format(" {:<{}}", cells[kState], widths[kState]);
    for (const size_t i : {kStep, kLoss, kSpeed, kLeft})
      if (widths[i] > 0) line += fmt::format(" {:>{}}", cells[i], widths[i]);
  }
  return out;
}

// A run that goes on as its last row tells.
void refresh(SweepRow& row, const std::string& folder, double& seconds_a_step) {
  const auto last = last_row(std::filesystem::path(folder) / row.run / "metrics.csv");
  if (const double step = number_in(last, "step"); !std::isnan(step)) row.steps = static_cast<int64_t>(step) + 1;
  if (const double loss = number_in(last, "loss"); !std::isnan(loss)) row.last_loss = loss;
  if (const double speed = number_in(last, "tokens_per_second"); !std::isnan(speed)) row.tokens_per_second = speed;
  seconds_a_step = number_in(last, "step_seconds");
}

// Who does not read it any more does not keep a sweep from going on.
class Printer : public SweepScreen {
 public:
  explicit Printer(std::FILE* out) : out_(out) {}

 protected:
  void put(const std::string& text) { std::fputs(text.c_str(), out_); }
  std::FILE* out_;
};

class PlainScreen : public Printer {
 public:
  explicit PlainScreen(std::FILE* out) : Printer(out) {}
  void line(const std::string& text) override {
    put(visible(text) + "\n");
    std::fflush(out_);
  }
  void show(const std::vector<SweepRow>&, const std::vector<int64_t>&) override {}
  void finish(const std::vector<SweepRow>&, const std::vector<int64_t>&) override {}
};

class TerminalScreen : public Printer {
 public:
  TerminalScreen(const SweepRequest& request, size_t jobs, std::FILE* out) : Printer(out), request_(request), jobs_(jobs) {}
  ~TerminalScreen() override { std::fflush(out_); }
  void line(const std::string& text) override {
    put(drawn_.clear() + visible(text) + "\n");
    std::fflush(out_);
    shown_at_ = {};
  }
  void show(const std::vector<SweepRow>& rows, const std::vector<int64_t>& steps) override {
    constexpr std::chrono::milliseconds kInterval{500};
    if (Clock::now() - shown_at_ < kInterval) return;
    const auto [rows_of_terminal, columns] = terminal_size(::fileno(out_));
    std::vector<std::string> lines = sweep_table(request_, rows, steps, jobs_, std::max(3, rows_of_terminal - 2), columns - 1);
    for (std::string& text : lines) text = visible(text);
    put(drawn_.draw(lines));
    std::fflush(out_);
    shown_at_ = Clock::now();
  }

  void finish(const std::vector<SweepRow>& rows, const std::vector<int64_t>& steps) override {
    shown_at_ = {};
    show(rows, steps);
    drawn_.leave();
  }

 private:
  const SweepRequest& request_;
  size_t jobs_;
  LiveLines drawn_;
  Clock::time_point shown_at_;
};

// The order in which rows are worth a line.
int rank_of(SweepState state) {
  switch (state) {
    case SweepState::Running:
      return 0;
    case SweepState::Failed:
      return 1;
    case SweepState::Killed:
      return 2;
    case SweepState::Interrupted:
      return 3;
    case SweepState::Queued:
      return 4;
    case SweepState::Done:
      return 5;
  }
  return 6;
}

// At most, whichever runs go on: those of the rung that is in progress, which no run that is left behind has to reach.
std::optional<double> seconds_of_search(const SweepSearch& search, const std::vector<SweepRow>& rows, const std::vector<int64_t>& steps,
                                        const std::function<double(size_t)>& seconds_of_step, size_t jobs) {
  int64_t rung = 0;
  for (int64_t target : steps) rung = std::max(rung, std::min(target, search.rungs.back()));
  std::vector<Contestant> runs;
  for (size_t i = 0; i < rows.size(); ++i)
    runs.push_back({rows[i].steps, rows[i].is_stopped() || rows[i].state == SweepState::Failed || steps[i] < rung});
  const double left = most_cost(
      search, runs, [&](size_t i, int64_t from, int64_t to) { return static_cast<double>(to - from) * seconds_of_step(i); }, jobs);
  return std::isfinite(left) ? std::optional(left) : std::nullopt;
}

}  // namespace

std::string text_of_time_left(const SweepRequest& request, std::vector<SweepRow> rows, const std::vector<int64_t>& steps, size_t jobs) {
  for (SweepRow& row : rows) {
    double seconds_a_step = NAN;
    if (row.state == SweepState::Running) refresh(row, request.file.folder(), seconds_a_step);
    if (!std::isnan(seconds_a_step)) row.seconds = seconds_a_step * static_cast<double>(row.steps);
  }
  const std::optional<double> left = seconds_left(request, rows, steps, jobs);
  return left && *left > 0 ? fmt::format("{} {} left", request.file.search ? "at most" : "about", human_duration(*left)) : "";
}

std::optional<double> seconds_left(const SweepRequest& request, const std::vector<SweepRow>& rows, const std::vector<int64_t>& steps,
                                   size_t jobs) {
  const auto predicted = [&](size_t i) {
    const PlannedRun& planned = request.planned[i];
    return planned.seconds && planned.steps > 0 ? *planned.seconds / static_cast<double>(planned.steps) : NAN;
  };
  // What steps have taken, and what was predicted for them.
  double seconds = 0, count = 0, of_predicted = 0, as_predicted = 0;
  for (size_t i = 0; i < rows.size(); ++i) {
    if (rows[i].seconds <= 0 || rows[i].steps == 0) continue;
    seconds += rows[i].seconds;
    count += static_cast<double>(rows[i].steps);
    if (std::isnan(predicted(i))) continue;
    of_predicted += rows[i].seconds;
    as_predicted += predicted(i) * static_cast<double>(rows[i].steps);
  }
  const double slower = as_predicted > 0 ? of_predicted / as_predicted : 1;
  const auto seconds_of_step = [&](size_t i) { return std::isnan(predicted(i)) ? seconds / count : predicted(i) * slower; };
  if (request.file.search) return seconds_of_search(*request.file.search, rows, steps, seconds_of_step, jobs);
  double left = 0, longest = 0;
  for (size_t i = 0; i < rows.size(); ++i) {
    if ((rows[i].state != SweepState::Queued && rows[i].state != SweepState::Running) || steps[i] == rows[i].steps) continue;
    const double a_step = seconds_of_step(i);
    if (!std::isfinite(a_step)) return std::nullopt;
    const double here = static_cast<double>(steps[i] - rows[i].steps) * a_step;
    left += here;
    longest = std::max(longest, here);
  }
  return std::max(longest, left / static_cast<double>(jobs));
}

std::vector<std::string> sweep_table(const SweepRequest& request, const std::vector<SweepRow>& rows, const std::vector<int64_t>& steps,
                                     size_t jobs, int max_lines, int columns) {
  std::vector<SweepRow> fresh = rows;
  std::vector<size_t> order(rows.size());
  for (size_t i = 0; i < rows.size(); ++i) order[i] = i;
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return rank_of(rows[a].state) < rank_of(rows[b].state); });
  std::vector<Cells> table{{"run", "state", "step", "last loss", "tokens/s", "left"}};
  size_t hidden = 0;
  for (size_t i : order) {
    SweepRow& row = fresh[i];
    double seconds_a_step = NAN;
    if (row.state == SweepState::Running) refresh(row, request.file.folder(), seconds_a_step);
    if (!std::isnan(seconds_a_step)) row.seconds = seconds_a_step * static_cast<double>(row.steps);
    if (std::ssize(table) + 2 >= max_lines && order.size() - (table.size() - 1) > 1) {
      ++hidden;
      continue;
    }
    table.push_back({row.run, std::string(name_of(row.state)),
                     row.steps > 0 || row.state == SweepState::Running ? fmt::format("{}/{}", row.steps, steps[i]) : "",
                     row.last_loss ? fmt::format("{:.4f}", *row.last_loss) : "",
                     row.tokens_per_second ? human_count(*row.tokens_per_second) : "",
                     std::isnan(seconds_a_step) ? "" : human_duration(seconds_a_step * static_cast<double>(steps[i] - row.steps))});
  }
  std::vector<std::string> out = lines_of(std::move(table), columns);
  if (hidden > 0) out.push_back(fmt::format("... and {} more", hidden));
  const auto count = [&](SweepState state) {
    return std::count_if(rows.begin(), rows.end(), [&](const SweepRow& row) { return row.state == state; });
  };
  const std::string done = fmt::format("{} of {} done", count(SweepState::Done), rows.size());
  std::string states = fmt::format(", {} running", count(SweepState::Running)), left = text_of_time_left(request, rows, steps, jobs);
  for (const SweepState state : {SweepState::Failed, SweepState::Killed, SweepState::Interrupted})
    if (count(state) > 0) states += fmt::format(", {} {}", count(state), name_of(state));
  if (!left.empty()) left = " | " + left;
  out.push_back(columns_of_text(done + states + left) > columns ? done + left : done + states + left);
  for (std::string& line : out) line = cut_to_columns(line, columns);
  return out;
}

std::unique_ptr<SweepScreen> make_sweep_screen(const SweepRequest& request, size_t jobs, std::FILE* out) {
  if (stdout_terminal().present) return make_terminal_screen(request, jobs, out);
  return std::make_unique<PlainScreen>(out);
}

std::unique_ptr<SweepScreen> make_terminal_screen(const SweepRequest& request, size_t jobs, std::FILE* out) {
  return std::make_unique<TerminalScreen>(request, jobs, out);
}

}  // namespace zerostep
