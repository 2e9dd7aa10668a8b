#include "experiments/records/metrics_table.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cmath>
#include <cstring>
#include <limits>
#include <optional>
#include <set>

#include "base/error.h"
#include "experiments/records/read_file.h"
#include "models/text_file.h"
#include "runtime/report/csv_cells.h"

namespace zerostep {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

// A CSV of another program may call batch_size `bs`.
std::string_view name_here(std::string_view name) { return name == "bs" ? "batch_size" : name; }

// What a target is filled with: the number of a cell, or the seconds of a time stamp.
struct Target {
  std::vector<double>* values = nullptr;  // nullptr: the cell is skipped
  bool is_timestamp = false;
};

void add_value(const Target& target, const char* begin, const char* end) {
  if (target.values == nullptr) return;
  target.values->push_back(target.is_timestamp ? seconds_of_timestamp({begin, end}) : csv_number(begin, end));
}

// Appends to each target the number of its cell. Gives whether the line has as many cells as there are targets; else nothing is appended.
bool add_numbers(std::string_view line, std::span<const Target> targets) {
  const char *at = line.data(), *const end = at + line.size();
  if (static_cast<size_t>(std::count(at, end, ',')) + 1 != targets.size() || std::memchr(at, '"', line.size()) != nullptr) {
    const std::vector<std::string> cells = csv_cells(line);
    if (cells.size() != targets.size()) return false;
    for (size_t i = 0; i < cells.size(); ++i) add_value(targets[i], cells[i].data(), cells[i].data() + cells[i].size());
    return true;
  }
  for (const Target& target : targets) {
    const auto* comma = static_cast<const char*>(std::memchr(at, ',', static_cast<size_t>(end - at)));
    if (comma == nullptr) comma = end;
    add_value(target, at, comma);
    at = comma < end ? comma + 1 : end;
  }
  return true;
}

std::string_view without_return(std::string_view line) {
  if (line.ends_with('\r')) line.remove_suffix(1);
  return line;
}

bool is_asked_for(std::string_view name, std::span<const std::string_view> columns) {
  return columns.empty() || std::any_of(columns.begin(), columns.end(), [&](std::string_view column) {
           return column == name || (column.ends_with(".*") && name.starts_with(column.substr(0, column.size() - 1)));
         });
}

}  // namespace

MetricsTable MetricsTable::read(const std::filesystem::path& file, std::span<const std::string_view> columns) {
  MetricsTable out;
  const std::string content = read_file(file);
  std::string_view left = content;
  int64_t line_number = 0;
  // The next line; a last one without an end is cut: whoever writes a row ends it.
  bool is_cut = false;
  const auto next = [&]() -> std::optional<std::string_view> {
    if (left.empty()) return std::nullopt;
    ++line_number;
    const size_t end = left.find('\n');
    is_cut = end == std::string_view::npos;
    const std::string_view line = left.substr(0, end);
    left.remove_prefix(is_cut ? left.size() : end + 1);
    return without_return(line);
  };
  const std::optional<std::string_view> header = next();
  if (header)
    for (const std::string& name : csv_cells(header->starts_with(kByteOrderMark) ? header->substr(kByteOrderMark.size()) : *header))
      out.names_.emplace_back(name_here(name));
  const auto has = [&](std::string_view name) { return std::find(out.names_.begin(), out.names_.end(), name) != out.names_.end(); };
  if (has("run") && has("state")) fail_input("{}: is a table of runs, not of a run's steps: name their folder", file.string());
  if (std::find(out.names_.begin(), out.names_.end(), "loss") == out.names_.end())
    fail_input(
        "{}: has no column `loss` in its first line; expected is a metrics.csv as `zerostep train` leaves it, or a CSV with a column "
        "loss, and step where its rows are not all steps",
        file.string());
  std::vector<Target> targets(out.names_.size());
  std::set<std::string_view> seen, twice;
  for (size_t i = 0; i < targets.size(); ++i) {
    const std::string& name = out.names_[i];
    if (!seen.insert(name).second) {
      if (twice.insert(name).second)
        out.notes_.push_back(fmt::format("{}: has more than one column `{}`: the first is read", file.string(), name));
    } else if (is_asked_for(name, columns)) {
      targets[i] = {&out.values_[name], name == "timestamp"};
    }
  }
  std::string_view first, last;
  int64_t odd = 0, first_odd = 0;
  while (const std::optional<std::string_view> line = next()) {
    if (line->empty() && !is_cut) continue;
    if (is_cut) {
      out.notes_.push_back(fmt::format("{}: line {}, the last, is cut: left out", file.string(), line_number));
    } else if (!add_numbers(*line, targets)) {
      if (odd++ == 0) first_odd = line_number;
    } else {
      if (out.num_rows_++ == 0) first = *line;
      last = *line;
    }
  }
  if (odd > 0)
    out.notes_.push_back(fmt::format("{}: line {}{} {} not the {} cells of the header: left out", file.string(), first_odd,
                                     odd > 1 ? fmt::format(" and {} more", odd - 1) : "", odd > 1 ? "have" : "has", out.names_.size()));
  if (out.num_rows_ > 0) {
    out.first_ = csv_cells(first);
    out.last_ = csv_cells(last);
  }
  return out;
}

std::span<const double> MetricsTable::column(std::string_view name) const {
  const auto it = values_.find(name);
  return it == values_.end() ? std::span<const double>() : std::span<const double>(it->second);
}

std::string MetricsTable::text(const std::vector<std::string>& row, std::string_view column) const {
  const auto it = std::find(names_.begin(), names_.end(), column);
  const auto index = static_cast<size_t>(it - names_.begin());
  return index < row.size() ? row[index] : "";
}

MeanSpeed mean_speed(std::span<const double> step_seconds, std::span<const double> tokens_per_second) {
  double tokens = 0, time = 0, count = 0;
  for (size_t i = 0; i < std::min(step_seconds.size(), tokens_per_second.size()); ++i)
    if (std::isfinite(tokens_per_second[i]) && std::isfinite(step_seconds[i])) {
      tokens += tokens_per_second[i] * step_seconds[i];
      time += step_seconds[i];
      ++count;
    }
  return {count > 0 ? time / count : kNaN, time > 0 ? tokens / time : kNaN};
}

double mean_speed(const MetricsTable& table) {
  return mean_speed(table.column("step_seconds"), table.column("tokens_per_second")).tokens_per_second;
}

bool is_loss(double value) { return std::abs(value) <= std::numeric_limits<float>::max(); }

bool has_diverged(const MetricsTable& table, std::string_view column) {
  const double mean = final_mean(table.column(column));
  std::string last = table.last(column);
  std::transform(last.begin(), last.end(), last.begin(), [](unsigned char c) { return std::tolower(c); });
  return (!std::isnan(mean) && !is_loss(mean)) || last.find("nan") != last.npos;
}

double final_mean(std::span<const double> values) {
  const int64_t count = std::count_if(values.begin(), values.end(), [](double v) { return !std::isnan(v); });
  if (count == 0) return kNaN;
  const int64_t wanted = std::max<int64_t>(1, count / 20);
  double sum = 0;
  int64_t taken = 0;
  for (size_t i = values.size(); i-- > 0 && taken < wanted;)
    if (!std::isnan(values[i])) {
      sum += values[i];
      ++taken;
    }
  return sum / static_cast<double>(taken);
}

double deviation_of_last_fifth(std::span<const double> values) {
  std::vector<double> numbers;
  for (double value : values)
    if (std::isfinite(value)) numbers.push_back(value);
  const size_t count = numbers.size() / 5;
  if (count < 2) return kNaN;
  double sum = 0, squares = 0;
  for (size_t i = numbers.size() - count; i < numbers.size(); ++i) sum += numbers[i];
  const double mean = sum / static_cast<double>(count);
  for (size_t i = numbers.size() - count; i < numbers.size(); ++i) squares += (numbers[i] - mean) * (numbers[i] - mean);
  return std::sqrt(squares / static_cast<double>(count - 1));
}

double lowest(std::span<const double> values) {
  double out = kNaN;
  for (double v : values)
    if (!std::isnan(v) && !(out <= v)) out = v;
  return out;
}

double highest(std::span<const double> values) {
  double out = kNaN;
  for (double v : values)
    if (!std::isnan(v) && !(out >= v)) out = v;
  return out;
}

double last_value(std::span<const double> values) {
  for (size_t i = values.size(); i-- > 0;)
    if (!std::isnan(values[i])) return values[i];
  return kNaN;
}

double seconds_of_timestamp(std::string_view text) {
  // "2026-01-31T23:59:59": where its numbers stand, and what stands between them.
  constexpr size_t kDay = 10, kSecond = 17;
  if (text.size() < kSecond + 2 || text[4] != '-' || text[7] != '-' || (text[kDay] != 'T' && text[kDay] != ' ') || text[13] != ':' ||
      text[16] != ':')
    return kNaN;
  bool is_whole = true;
  const auto whole = [&](size_t at, size_t count) {
    int value = 0;
    const auto [rest, error] = std::from_chars(text.data() + at, text.data() + at + count, value);
    is_whole &= error == std::errc() && rest == text.data() + at + count;
    return value;
  };
  const std::chrono::year_month_day day{std::chrono::year(whole(0, 4)), std::chrono::month(static_cast<unsigned>(whole(5, 2))),
                                        std::chrono::day(static_cast<unsigned>(whole(8, 2)))};
  const int hours = whole(11, 2), minutes = whole(14, 2);
  double seconds = 0;
  const auto [rest, error] = std::from_chars(text.data() + kSecond, text.data() + text.size(), seconds, std::chars_format::fixed);
  if (!is_whole || error != std::errc() || !day.ok()) return kNaN;
  return static_cast<double>(std::chrono::sys_days(day).time_since_epoch().count()) * 86400 + hours * 3600 + minutes * 60 + seconds;
}

}  // namespace zerostep
