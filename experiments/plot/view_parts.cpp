#include "experiments/plot/view_parts.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cctype>
#include <cmath>
#include <limits>
#include <map>

#include "base/format.h"
#include "experiments/plot/colors.h"
#include "experiments/plot/smooth.h"

namespace zerostep {

PlotAxis value_axis(const PlotInput& input, const std::string& label, const std::string& column) {
  const bool is_cosine = column == "cosine";
  return {label, unit_of_column(column), input.is_log && !is_cosine, false, {}, is_cosine};
}

Panel curve_panel(const PlotInput& input, const std::string& title, const std::string& column) {
  Panel out;
  out.title = title;
  out.x = {input.x.label, input.x.unit, false, false};
  out.y = value_axis(input, label_of_column(column), column);
  return out;
}

RunPoints points_of(const PlotInput& input, size_t run, const std::string& column) {
  const std::span<const double> values = input.runs[run].column(column);
  RunPoints out;
  for (size_t i = 0; i < values.size(); ++i)
    if (std::isfinite(values[i]) && std::isfinite(input.x_values[run][i])) {
      out.x.push_back(input.x_values[run][i]);
      out.y.push_back(values[i]);
    }
  return out;
}

void add_curve(Panel& panel, const PlotInput& input, size_t run, const std::string& column, const Grouping& groups, Curve::Form form) {
  RunPoints points = points_of(input, run, column);
  Curve curve;
  curve.run = input.runs[run].record.name;
  curve.what = column;
  curve.label = groups.label(run);
  curve.color = groups.color(run);
  curve.form = form;
  curve.x = std::move(points.x);
  curve.y = std::move(points.y);
  if (curve.x.empty()) return;
  if (input.smooth > 0 && form == Curve::Form::Line) {
    Curve raw = curve;
    raw.form = Curve::Form::Faint;
    panel.curves.push_back(std::move(raw));
    curve.y = smoothed(curve.y, input.smooth);
    curve.what += " (smoothed)";
  }
  panel.curves.push_back(std::move(curve));
}

void settle_log(Panel& panel) {
  constexpr double kRatio = 200;
  if (panel.y.is_always_linear) return;
  double low = std::numeric_limits<double>::infinity(), high = 0;
  for (const Curve& curve : panel.curves)
    for (const std::vector<double>* values : {&curve.y, &curve.low, &curve.high})
      for (double value : *values) {
        if (!(value > 0)) return;
        low = std::min(low, value);
        high = std::max(high, value);
      }
  panel.y.is_log |= high > kRatio * low;
}

std::vector<size_t> runs_of_mean(const PlotInput& input, const Grouping& groups, size_t group) {
  std::vector<size_t> all, whole;
  for (size_t i = 0; i < input.runs.size(); ++i) {
    if (groups.of_run[i] != group) continue;
    all.push_back(i);
    if (input.runs[i].flaw().empty()) whole.push_back(i);
  }
  return whole.empty() ? all : whole;
}

std::string flaws_of(const PlotInput& input, const Grouping& groups, size_t group) {
  std::map<std::string, int64_t> counts;
  int64_t all = 0;
  for (size_t i = 0; i < input.runs.size(); ++i) {
    if (groups.of_run[i] != group) continue;
    ++all;
    if (const std::string flaw = input.runs[i].flaw(); !flaw.empty()) ++counts[flaw];
  }
  std::vector<std::string> texts;
  for (const auto& [flaw, count] : counts) texts.push_back(all == 1 ? flaw : fmt::format("{} {}", count, flaw));
  return texts.empty() ? "" : fmt::format(" ({})", fmt::join(texts, ", "));
}

Color flawed(const Color& color) { return color.faded(0.35); }

LegendEntry flawed_dots() { return {"failed, killed or diverged", flawed(kPale), Curve::Form::Dots}; }

Panel row_panel(const PlotInput& input, const std::string& title, const PlotAxis& axis, const Grouping& groups,
                const std::vector<double>& values) {
  Panel out;
  out.title = title;
  out.x = axis;
  for (size_t g = 0; g < groups.labels.size(); ++g) {
    const auto row = static_cast<double>(out.rows.size());
    Curve dots{groups.labels[g], axis.label, "", groups.colors[g], {}, {}, {}, {}, Curve::Form::Dots};
    Curve pale = dots;
    pale.what += " (" + flawed_dots().label + ")";
    pale.color = flawed(dots.color);
    bool has_diverged = false;
    for (size_t i = 0; i < values.size(); ++i) {
      if (groups.of_run[i] != g) continue;
      has_diverged |= input.runs[i].has_diverged;
      if (!std::isfinite(values[i])) continue;
      Curve& shown = input.runs[i].flaw().empty() ? dots : pale;
      shown.x.push_back(values[i]);
      shown.y.push_back(row);
    }
    // What has diverged has no place on the axis, but a name that says so.
    if (dots.x.empty() && pale.x.empty() && !has_diverged) continue;
    out.rows.push_back(groups.labels[g] + flaws_of(input, groups, g));
    double sum = 0, count = 0;
    for (size_t i : runs_of_mean(input, groups, g))
      if (std::isfinite(values[i])) {
        sum += values[i];
        ++count;
      }
    if (count > 1)
      out.curves.push_back(
          {groups.labels[g], axis.label + " (mean)", "", groups.colors[g], {sum / count, sum / count}, {row - 0.3, row + 0.3}, {}, {}});
    for (Curve* curve : {&pale, &dots})
      if (!curve->x.empty()) out.curves.push_back(std::move(*curve));
  }
  return out;
}

std::vector<double> final_values(const PlotInput& input, const std::string& column) {
  std::vector<double> out;
  for (const PlotRun& run : input.runs) {
    const double value = final_mean(run.column(column));
    out.push_back(is_loss(value) ? value : std::numeric_limits<double>::quiet_NaN());
  }
  return out;
}

PlotAxis final_axis(const PlotInput& input, const std::string& column) {
  return value_axis(input, "final " + label_of_column(column), column);
}

std::string final_note(const std::string& column) {
  return "final " + label_of_column(column) + ": mean of the last 5 % of the rows that have one";
}

std::string smoothing_note(const PlotInput& input) { return input.smooth > 0 ? fmt::format(", exponential mean {:g}", input.smooth) : ""; }

std::string runs_of(const PlotInput& input) {
  return input.runs.size() == 1 ? input.runs[0].record.name : counted(std::ssize(input.runs), "run");
}

std::string runs_of(const PlotInput& input, std::span<const size_t> runs) {
  return runs.size() == 1 ? input.runs[runs[0]].record.name : counted(std::ssize(runs), "run");
}

bool has_curves(const Picture& picture) {
  return std::any_of(picture.panels.begin(), picture.panels.end(), [](const Panel& p) { return !p.curves.empty() || !p.blocks.empty(); });
}

std::string capital(std::string text) {
  if (!text.empty()) text[0] = static_cast<char>(std::toupper(static_cast<unsigned char>(text[0])));
  return text;
}

}  // namespace zerostep
