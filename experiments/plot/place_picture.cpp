#include "experiments/plot/place_picture.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <optional>
#include <utility>

#include "experiments/plot/colors.h"
#include "experiments/plot/downsample.h"
#include "experiments/plot/label_places.h"
#include "experiments/plot/legend.h"
#include "experiments/plot/picture_layout.h"
#include "experiments/plot/short_labels.h"
#include "experiments/plot/text_width.h"

namespace zerostep {
namespace {

constexpr double kLabelHeight = 13;
constexpr double kTitleRoom = 22, kAboveBox = 4, kBelowPanel = 36, kBelowAll = 6, kBetween = 18;  // of panels

// The numbers that a scale has to show.
class Extent {
 public:
  void add(double value, bool is_log) {
    if (!std::isfinite(value) || (is_log && value <= 0)) return;
    low_ = std::min(low_, value);
    high_ = std::max(high_, value);
  }
  Scale scale(const PlotAxis& axis) const {
    if (!(low_ <= high_)) return scale_of(axis.is_log ? 1 : 0, axis.is_log ? 10 : 1, axis.is_log, axis.unit);
    const bool begins_at_zero = axis.has_zero && !axis.is_log && low_ >= 0;
    Scale out = scale_of(begins_at_zero ? 0 : low_, high_, axis.is_log, axis.unit);
    if (begins_at_zero) out.low = 0;
    return out;
  }
  Scale tight(const PlotAxis& axis) const { return low_ < high_ ? tight_scale_of(low_, high_, axis.is_log, axis.unit) : scale(axis); }

 private:
  double low_ = std::numeric_limits<double>::infinity(), high_ = -std::numeric_limits<double>::infinity();
};

void set_scales(PlacedPanel& placed) {
  Extent x, y;
  const Panel& panel = placed.panel;
  bool has_dots = false;
  for (const Curve& curve : panel.curves) {
    has_dots |= curve.form == Curve::Form::Dots;
    for (size_t i = 0; i < curve.x.size(); ++i)
      if (std::isfinite(curve.y[i])) {
        x.add(curve.x[i], panel.x.is_log);
        y.add(curve.y[i], panel.y.is_log);
        if (curve.low.empty()) continue;
        y.add(curve.low[i], panel.y.is_log);
        y.add(curve.high[i], panel.y.is_log);
      }
  }
  for (const Block& block : panel.blocks)
    for (double value : {block.left, block.right}) x.add(value, panel.x.is_log);
  placed.x = !has_dots && panel.blocks.empty() ? x.tight(panel.x) : x.scale(panel.x);
  placed.y = panel.rows.empty() ? y.scale(panel.y) : Scale{static_cast<double>(panel.rows.size()) - 0.4, -0.6, false};
}

std::vector<Tick> x_ticks_of(const PlotAxis& axis, const Scale& scale, double width) {
  constexpr double kApart = 80;
  if (axis.marks.empty()) return ticks_of(scale, axis.unit, std::max(2, static_cast<int>(width / kApart)));
  std::vector<Tick> out;
  for (double mark : axis.marks) out.push_back({mark, short_value(mark, axis.unit)});
  return out;
}

std::vector<Tick> y_ticks_of(const PlotAxis& axis, const Scale& scale, double height) {
  constexpr double kApart = 45;
  return ticks_of(scale, axis.unit, std::max(2, static_cast<int>(height / kApart)));
}

// Names of rows beside a panel in a cell of this width: more of it, and smaller letters, where names would be alike otherwise.
void set_row_names(PlacedPanel& placed, double cell_width) {
  constexpr double kSmallest = 6;
  const double size = std::clamp(placed.box.height() / static_cast<double>(placed.panel.rows.size()) * 0.75, kSmallest, kTextSize);
  std::optional<ShortLabels> best;
  for (const auto& [share, of_size] : {std::pair{0.42, size}, {0.6, size}, {0.6, 0.8 * size}, {0.6, kSmallest}}) {
    ShortLabels found = short_labels(placed.panel.rows, std::max(kSmallest, of_size), share * cell_width);
    if (best && found.kind >= best->kind) continue;
    best = std::move(found);
    placed.row_size = std::max(kSmallest, of_size);
    if (best->kind <= ShortLabels::Kind::Parts || (share > 0.5 && best->kind == ShortLabels::Kind::Cut)) break;
  }
  placed.row_names = std::move(best->texts);
  // Of rows that are closer than their text is high, some are named.
  const double apart = placed.box.height() / static_cast<double>(placed.panel.rows.size());
  placed.row_stride = static_cast<size_t>(std::max(1.0, std::ceil(placed.row_size / std::max(0.1, apart))));
}

// The names of rows that are drawn, and those that are not, or like another.
void add_row_names(PlacedPicture& picture, const PlacedPanel& placed) {
  const std::vector<std::string>& shown = placed.row_names;
  for (size_t i = 0; i < shown.size(); ++i) {
    const std::string& name = placed.panel.rows[i];
    picture.names.insert(name);
    const bool is_named = i % placed.row_stride == 0 && std::count(shown.begin(), shown.end(), shown[i]) == 1;
    if (!is_named && std::find(picture.unnamed.begin(), picture.unnamed.end(), name) == picture.unnamed.end())
      picture.unnamed.push_back(name);
  }
}

// The box of a panel within its cell: room for ticks, names of rows and titles.
void set_box(PlacedPanel& placed, const Box& cell, double right_room) {
  const Panel& panel = placed.panel;
  placed.box = {cell.left, cell.top + (panel.title.empty() ? kAboveBox : kTitleRoom), cell.right - right_room, cell.bottom - kBelowPanel};
  placed.x_label = shortened(panel.x.label, kTextSize, cell.width());
  double left = 0;
  if (panel.rows.empty()) {
    // It may be longer than the box, up to the title and as much below. Where it is too long for that, the title says as much.
    const bool fits = text_width(panel.y.label, kTextSize) <= placed.box.height() + 2 * kAboveBox;
    placed.y_label = fits ? panel.y.label : panel.title.empty() ? shortened(panel.y.label, kTextSize, placed.box.height()) : "";
    placed.y_ticks = y_ticks_of(panel.y, placed.y, placed.box.height());
    for (const Tick& tick : placed.y_ticks) left = std::max(left, text_width(tick.label, kTextSize));
    left += kTickGap + 2 + (placed.y_label.empty() ? 0 : kTickGap + kTextSize);
  } else {
    set_row_names(placed, cell.width());
    for (const std::string& name : placed.row_names) left = std::max(left, text_width(name, placed.row_size) + kTickGap + 2);
  }
  placed.box.left += left;
  placed.y_label_baseline = cell.left + kTextSize;
  placed.x_ticks = x_ticks_of(panel.x, placed.x, placed.box.width());
  const double half = std::min(cell.width(), text_width(placed.x_label, kTextSize)) / 2;
  placed.x_label_middle = std::clamp((placed.box.left + placed.box.right) / 2, cell.left + half, cell.right - half);
}

// Titles of panels in cells of this width, so short that they can be told apart.
void set_titles(std::vector<PlacedPanel>& panels, double cell_width) {
  constexpr double kSize = kPanelTitleSize * kBolderText;
  std::vector<std::string> titles;
  for (const PlacedPanel& panel : panels) titles.push_back(panel.panel.title);
  titles = short_labels(titles, kSize, cell_width).texts;
  for (size_t i = 0; i < panels.size(); ++i) {
    // It stands above the box, which begins where the names of rows end.
    const double room = cell_width - (panels[i].box.left - panels[i].left);
    panels[i].title = titles[i];
    panels[i].title_left = text_width(titles[i], kSize) <= room ? panels[i].box.left : panels[i].left;
  }
}

void reduce(PlacedPanel& placed) {
  const auto pixels = static_cast<int64_t>(std::max(1.0, std::ceil(placed.box.width())));
  for (Curve& curve : placed.panel.curves) {
    const std::vector<size_t> kept = shown_points({curve.x, curve.y, curve.low, curve.high}, placed.x, placed.y, pixels);
    const auto keep = [&](std::vector<double>& values) {
      if (values.empty()) return;
      std::vector<double> out(kept.size());
      for (size_t i = 0; i < kept.size(); ++i) out[i] = values[kept[i]];
      values = std::move(out);
    };
    for (std::vector<double>* values : {&curve.x, &curve.y, &curve.low, &curve.high}) keep(*values);
  }
}

constexpr double kLabelLead = kLeadWidth + 10;  // beside a panel, before the texts of its labels and after them

// Labels at the ends of curves as they fit, by the whole ones.
using EndLabels = std::map<std::string, std::string>;

// What these need beside a panel.
double room_of_labels(const Panel& panel, const EndLabels& labels) {
  constexpr double kWithout = 8;
  double out = kWithout;
  for (const Curve* curve : labelled(panel))
    if (const auto it = labels.find(curve->label); it != labels.end() && curve->form == Curve::Form::Line)
      out = std::max(out, kLabelLead + text_width(it->second, kTextSize));
  return out;
}

void place_labels(PlacedPanel& placed, const EndLabels& labels) {
  std::vector<const Curve*> shown;
  std::vector<double> wanted;
  for (const Curve* curve : labelled(placed.panel)) {
    if (curve->x.empty() || curve->form != Curve::Form::Line || !labels.contains(curve->label)) continue;
    // Where it leaves the panel; a noisy curve's own last value says little, so it is the mean of its last pixels.
    const size_t count = std::min<size_t>(curve->y.size(), std::max<size_t>(1, curve->y.size() / 40));
    double sum = 0;
    for (size_t i = curve->y.size() - count; i < curve->y.size(); ++i)
      sum += placed.y.to_pixel(curve->y[i], placed.box.bottom, placed.box.top);
    wanted.push_back(sum / static_cast<double>(count));
    shown.push_back(curve);
  }
  const std::vector<double> heights = spread(wanted, kLabelHeight, placed.box.top + 5, placed.box.bottom - 3);
  for (size_t i = 0; i < heights.size(); ++i) {
    const Curve& curve = *shown[i];
    const Point end{placed.x.to_pixel(curve.x.back(), placed.box.left, placed.box.right), wanted[i]};
    placed.labels.push_back({{placed.box.right + kLeadWidth, heights[i] + 4}, end, labels.at(curve.label), curve.color});
  }
}

constexpr double kLeastWidth = 240, kLeastHeight = 150;  // of a panel with its texts

// Two panels a row where they stand beside each other; the last alone takes a whole row.
struct PanelGrid {
  size_t columns = 1;
  double rows = 1;
};
PanelGrid grid_of(size_t panels, PictureSize size) {
  const size_t columns = panels > 1 && size.width >= 1.1 * size.height ? 2 : 1;
  return {columns, static_cast<double>((panels + columns - 1) / columns)};
}

// What stands above the panels and beside their only one, for a picture of some size.
struct Head {
  std::vector<std::string> subtitle;
  PlacedLegend legend;
  EndLabels labels;             // none: they are in the legend, or too many for that too
  std::set<std::string> names;  // of the curves, of several
  std::vector<std::string> unnamed;
  double height = 0;
};

constexpr size_t kMostEntries = 24;  // of a legend

// Those of all lines, where each panel of curves has room for its own.
EndLabels end_labels(const Picture& picture, const std::vector<LegendEntry>& entries, PictureSize size) {
  constexpr double kMostOfWidth = 0.3;
  std::vector<std::string> texts;
  for (const LegendEntry& entry : entries)
    if (entry.form == Curve::Form::Line) texts.push_back(entry.label);
  if (texts.size() < 2) return {};
  const double columns = static_cast<double>(grid_of(picture.panels.size(), size).columns);
  ShortLabels labels = short_labels(texts, kTextSize, kMostOfWidth * size.width / columns - kLabelLead);
  // Labels that have to be cut read better in a legend, as far as that has room for them.
  if (labels.kind > (texts.size() <= kMostEntries ? ShortLabels::Kind::Parts : ShortLabels::Kind::Cut)) return {};
  EndLabels out;
  for (size_t i = 0; i < texts.size(); ++i) out.emplace(std::move(texts[i]), std::move(labels.texts[i]));
  return out;
}

// Whether each panel has room for the labels of its curves below a head of this height.
bool fit(const EndLabels& labels, const Picture& picture, PictureSize size, double head) {
  const double room = (size.height - head - kBelowAll) / grid_of(picture.panels.size(), size).rows - kTitleRoom - kBelowPanel;
  return std::all_of(picture.panels.begin(), picture.panels.end(), [&](const Panel& panel) {
    const std::vector<const Curve*> curves = labelled(panel);
    const auto count = std::count_if(curves.begin(), curves.end(), [&](const Curve* curve) { return labels.contains(curve->label); });
    return static_cast<double>(count) * kLabelHeight < room;
  });
}

// Whether a curve of points has the label, which nothing at the end of a line names.
bool has_dots(const Picture& picture, const std::string& label) {
  return std::any_of(picture.panels.begin(), picture.panels.end(), [&](const Panel& panel) {
    return std::any_of(panel.curves.begin(), panel.curves.end(),
                       [&](const Curve& curve) { return curve.label == label && curve.form == Curve::Form::Dots; });
  });
}

Head head_of(const Picture& picture, PictureSize size, bool may_label_curves) {
  constexpr double kMostOfHeight = 0.3, kEnough = 250;
  Head out;
  const double width = size.width - 2 * kPictureEdge;
  const std::vector<LegendEntry> entries = legend_of(picture);
  out.subtitle = wrapped(picture.subtitle, kTextSize, width);
  const double begin =
      kPictureEdge + kPictureTitleSize + 4 + kSubtitleLine * static_cast<double>(out.subtitle.size()) + (out.subtitle.empty() ? 0 : 3);
  if (entries.size() > 1)
    for (const LegendEntry& entry : entries) out.names.insert(entry.label);
  // A legend takes what panels of a fair height leave it, and a part of the height at most where they are less high.
  const double left_over = size.height - begin - kBelowAll - kEnough * grid_of(picture.panels.size(), size).rows;
  const auto place = [&](std::vector<LegendEntry> shown) {
    out.legend =
        place_legend(picture.notes, std::move(shown), {kPictureEdge, begin}, width, std::max(kMostOfHeight * size.height, left_over));
    out.height = begin + out.legend.height;
  };
  if (may_label_curves) out.labels = end_labels(picture, entries, size);
  if (!out.labels.empty()) {
    std::vector<LegendEntry> others = entries;
    std::erase_if(others, [&](const LegendEntry& entry) { return out.labels.contains(entry.label) && !has_dots(picture, entry.label); });
    if (others.size() <= kMostEntries) place(std::move(others));
    if (others.size() > kMostEntries || !fit(out.labels, picture, size, out.height)) out.labels.clear();
  }
  if (out.labels.empty()) {
    const bool has_none = entries.size() > kMostEntries || (entries.size() == 1 && !picture.is_grouped);
    if (entries.size() > kMostEntries)
      for (const LegendEntry& entry : entries) out.unnamed.push_back(entry.label);
    place(has_none ? std::vector<LegendEntry>() : entries);
  }
  out.unnamed.insert(out.unnamed.end(), out.legend.unnamed.begin(), out.legend.unnamed.end());
  return out;
}

}  // namespace

double narrow_height(const Picture& picture, double width) {
  constexpr double kPanel = 270, kRow = 15, kHigh = 1e6;
  double height = kBelowAll;
  for (const Panel& panel : picture.panels) height += std::max(kPanel, 70 + kRow * static_cast<double>(panel.rows.size()));
  return height + head_of(picture, {width, kHigh}, false).height;
}

PlacedPicture place_picture(Picture picture, PictureSize size) {
  constexpr double kLeastFactor = 0.5;
  PlacedPicture out;
  out.size = size;
  const size_t count = picture.panels.size();
  Head head;
  for (;; out.factor -= 0.05) {
    size = {out.size.width / out.factor, out.size.height / out.factor};
    head = head_of(picture, size, true);
    const PanelGrid grid = grid_of(count, size);
    const bool is_wide = (size.width - 2 * kPictureEdge) / static_cast<double>(grid.columns) >= kLeastWidth;
    if ((is_wide && size.height - head.height >= kLeastHeight * grid.rows) || out.factor < kLeastFactor + 0.01) break;
  }
  out.subtitle = std::move(head.subtitle);
  out.legend = std::move(head.legend.entries);
  out.names = std::move(head.names);
  out.unnamed = std::move(head.unnamed);
  const PanelGrid grid = grid_of(count, size);
  const double width = size.width - 2 * kPictureEdge, half = (width - kBetween) / 2;
  const double height = (size.height - head.height - kBelowAll) / grid.rows;
  for (size_t i = 0; i < count; ++i) {
    PlacedPanel placed;
    placed.panel = std::move(picture.panels[i]);
    const bool is_alone = grid.columns == 1 || (i + 1 == count && count % 2 == 1);
    placed.left = kPictureEdge + (is_alone || i % 2 == 0 ? 0 : half + kBetween);
    const double above = head.height + height * std::floor(static_cast<double>(i) / static_cast<double>(grid.columns));
    set_scales(placed);
    set_box(placed, {placed.left, above, placed.left + (is_alone ? width : half), above + height},
            room_of_labels(placed.panel, head.labels));
    reduce(placed);
    add_row_names(out, placed);
    if (!head.labels.empty()) place_labels(placed, head.labels);
    out.panels.push_back(std::move(placed));
  }
  set_titles(out.panels, grid.columns == 1 ? width : half);
  picture.panels.clear();
  out.head = std::move(picture);
  return out;
}

}  // namespace zerostep
