#include "experiments/plot/legend.h"

#include <fmt/format.h>

#include <algorithm>

#include "experiments/plot/colors.h"
#include "experiments/plot/picture_layout.h"
#include "experiments/plot/short_labels.h"
#include "experiments/plot/text_width.h"

namespace zerostep {
namespace {

constexpr double kLegendGap = 17, kLegendLine = 15, kLegendEnd = 4;

// Gives the labels, as they were, that are like another now.
std::vector<std::string> shorten(std::vector<LegendEntry>& entries, double width) {
  constexpr double kMostLabel = 260;
  std::vector<std::string> labels;
  for (const LegendEntry& entry : entries) labels.push_back(entry.label);
  ShortLabels found;
  for (const double most : {std::min(kMostLabel, width - kLegendMark), width - kLegendMark}) {
    found = short_labels(labels, kTextSize, most);
    if (found.kind != ShortLabels::Kind::Alike) break;
  }
  std::vector<std::string> alike;
  for (size_t i = 0; i < entries.size(); ++i) {
    if (std::count(found.texts.begin(), found.texts.end(), found.texts[i]) > 1) alike.push_back(entries[i].label);
    entries[i].label = found.texts[i];
  }
  return alike;
}

}  // namespace

std::vector<const Curve*> labelled(const Panel& panel) {
  std::vector<const Curve*> out;
  for (const Curve& curve : panel.curves) {
    if (curve.label.empty() || curve.form == Curve::Form::Dashed || curve.form == Curve::Form::Faint) continue;
    if (std::none_of(out.begin(), out.end(), [&](const Curve* other) { return other->label == curve.label; })) out.push_back(&curve);
  }
  return out;
}

std::vector<LegendEntry> legend_of(const Picture& picture) {
  std::vector<LegendEntry> out;
  for (const Panel& panel : picture.panels)
    for (const Curve* curve : labelled(panel))
      if (std::none_of(out.begin(), out.end(), [&](const LegendEntry& e) { return e.label == curve->label; }))
        out.push_back({curve->label, curve->color, curve->form, false});
  return out;
}

PlacedLegend place_legend(const std::vector<LegendEntry>& notes, std::vector<LegendEntry> entries, Point at, double width,
                          double most_height) {
  PlacedLegend out;
  std::vector<std::string> whole(notes.size());
  for (const LegendEntry& entry : entries) whole.push_back(entry.label);
  std::vector<std::string> alike = shorten(entries, width);
  entries.insert(entries.begin(), notes.begin(), notes.end());
  if (entries.empty()) return out;
  const auto lines = static_cast<size_t>(std::max(1.0, (most_height - kLegendEnd) / kLegendLine));
  double x = 0;
  size_t line = 0;
  const auto put = [&](const LegendEntry& entry) {
    const double needed = kLegendMark + text_width(entry.label, kTextSize);
    if (x > 0 && x + needed > width) {
      x = 0;
      ++line;
    }
    if (line >= lines) return false;
    out.entries.push_back({{at.x + x, at.y + kLegendLine * static_cast<double>(line) + kLegendLine / 2}, entry});
    x += needed + kLegendGap;
    return true;
  };
  for (const LegendEntry& entry : entries)
    if (!put(entry)) break;
  // As many entries make room for the last one, which counts them and the others, as that needs.
  const auto count_others = [&] {
    const Point end = out.entries.back().at;
    out.entries.pop_back();
    x = end.x - at.x;
    line = static_cast<size_t>((end.y - at.y) / kLegendLine);
    const std::string text = fmt::format("and {} more", entries.size() - out.entries.size());
    return put({text, kPale, Curve::Form::Line, false, true});
  };
  if (out.entries.size() < entries.size()) {
    while (!count_others() && !out.entries.empty()) {
    }
    const size_t named = std::max(notes.size(), out.entries.size() - std::min<size_t>(1, out.entries.size()));
    out.unnamed.assign(whole.begin() + static_cast<std::ptrdiff_t>(named), whole.end());
  }
  for (std::string& label : alike)
    if (std::find(out.unnamed.begin(), out.unnamed.end(), label) == out.unnamed.end()) out.unnamed.push_back(std::move(label));
  out.height = kLegendLine * static_cast<double>(line + 1) + kLegendEnd;
  return out;
}

}  // namespace zerostep
