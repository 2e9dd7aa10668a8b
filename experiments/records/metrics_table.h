#pragma once
#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace zerostep {

// The steps of a run as its metrics.csv tells them, or as any CSV with a column `loss` does: files whose columns have other names or are
// fewer (`bs` is read as batch_size), the run's own while it still runs. Numbers column by column, of the column `timestamp` seconds since
// the epoch; NaN where a cell is empty or neither.
class MetricsTable {
 public:
  // Reads these columns, of which a file may lack some; "eval_loss.*" are all that begin so; none named: all of them. InputError naming the
  // file: it cannot be read, or is no table with a column `loss`. May be called on several threads.
  static MetricsTable read(const std::filesystem::path& file, std::span<const std::string_view> columns = {});

  int64_t num_rows() const { return num_rows_; }
  const std::vector<std::string>& columns() const { return names_; }  // of the file, in its order
  bool has(std::string_view column) const { return values_.contains(column); }
  // As many values as there are rows; of a column that is not there no values at all.
  std::span<const double> column(std::string_view name) const;
  // The cell of the first row or the last, as it is written; "" where there is none.
  std::string first(std::string_view column) const { return text(first_, column); }
  std::string last(std::string_view column) const { return text(last_, column); }
  // What is left out and why, a sentence each: rows that are cut or have another number of cells than the header, columns whose name stands
  // there already.
  const std::vector<std::string>& notes() const { return notes_; }

 private:
  std::string text(const std::vector<std::string>& row, std::string_view column) const;

  std::vector<std::string> names_, first_, last_, notes_;
  std::map<std::string, std::vector<double>, std::less<>> values_;
  int64_t num_rows_ = 0;
};

// Means of steps: the seconds of one, and their tokens over their seconds; NaN where the steps tell nothing.
struct MeanSpeed {
  double step_seconds, tokens_per_second;
};
// Of steps whose seconds and tokens a second these are; what is no number in either is left out.
MeanSpeed mean_speed(std::span<const double> step_seconds, std::span<const double> tokens_per_second);
// Tokens a second of all steps.
double mean_speed(const MetricsTable& table);
// Whether a loss has left the numbers: its final mean is infinite, or larger than the floats that losses are computed in, or the last row
// says that it is none ("nan").
bool has_diverged(const MetricsTable& table, std::string_view column);
// Whether a value may be a loss: a number that a float has room for.
bool is_loss(double value);
// Mean of the last twentieth of the values that are numbers, of one at least; NaN where there is none.
double final_mean(std::span<const double> values);
// Standard deviation of the last fifth of the values that are numbers; NaN of fewer than two.
double deviation_of_last_fifth(std::span<const double> values);
double lowest(std::span<const double> values);   // NaN where none is a number
double highest(std::span<const double> values);  // likewise
// The last value that is a number; NaN where none is.
double last_value(std::span<const double> values);

// Seconds since the epoch of a timestamp as metrics.csv has it (2026-01-31T23:59:59.123Z; a blank instead of the T is read too); NaN where
// it is none.
double seconds_of_timestamp(std::string_view text);

}  // namespace zerostep
