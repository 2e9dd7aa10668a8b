#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>

#include "experiments/plot/colors.h"
#include "experiments/plot/downsample.h"
#include "experiments/plot/draw_picture.h"
#include "experiments/plot/label_places.h"
#include "experiments/plot/text_width.h"

namespace zerostep {
namespace {

constexpr double kMargin = 14, kTitle = 15, kSmall = 11, kLabelHeight = 13;

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
  // Without room, as for steps.
  Scale tight(const PlotAxis& axis) const { return low_ < high_ ? Scale{low_, high_, axis.is_log} : scale(axis); }

 private:
  double low_ = std::numeric_limits<double>::infinity(), high_ = -std::numeric_limits<double>::infinity();
};

void set_scales(PlacedPicture::Place& place) {
  Extent x, y;
  const Panel& panel = place.panel;
  bool has_dots = false;
  for (const Curve& curve : panel.curves) {
    has_dots |= curve.form == Curve::Form::Dots;
    for (size_t i = 0; i < curve.x.size(); ++i)
      if (std::isfinite(curve.y[i])) {
        x.add(curve.x[i], panel.x.is_log);
        y.add(curve.y[i], panel.y.is_log);
      }
    for (double value : curve.low) y.add(value, panel.y.is_log);
    for (double value : curve.high) y.add(value, panel.y.is_log);
  }
  for (const Block& block : panel.blocks)
    for (double value : {block.left, block.right}) x.add(value, panel.x.is_log);
  place.x = !has_dots && panel.blocks.empty() ? x.tight(panel.x) : x.scale(panel.x);
  place.y = panel.rows.empty() ? y.scale(panel.y) : Scale{static_cast<double>(panel.rows.size()) - 0.4, -0.6, false};
}

// The curves that have a label of their own: one for each label, the first that is no dashed or faint one.
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

// The lines of a legend that is `width` wide. Gives its height.
double place_legend(const std::vector<LegendEntry>& entries, double left, double top, double width,
                    std::vector<PlacedPicture::Entry>& out) {
  constexpr double kMark = 26, kGap = 16, kMostLabel = 260;
  double x = left, y = top + kLabelHeight / 2;
  for (LegendEntry entry : entries) {
    entry.label = shortened(entry.label, kSmall, kMostLabel);
    const double needed = kMark + text_width(entry.label, kSmall);
    if (x > left && x + needed > left + width) {
      x = left;
      y += kLabelHeight + 2;
    }
    out.push_back({{x, y}, entry});
    x += needed + kGap;
  }
  return entries.empty() ? 0 : y - top + kLabelHeight / 2 + 4;
}

double widest_tick(const Scale& scale, AxisUnit unit, int most) {
  double out = 0;
  for (const Tick& tick : ticks_of(scale, unit, most)) out = std::max(out, text_width(tick.label, kSmall));
  return out;
}

// The box of a panel within its cell: room for ticks, names of rows and titles.
void set_box(PlacedPicture::Place& place, const Box& cell, double right_room) {
  const Panel& panel = place.panel;
  place.box = {cell.left, cell.top + (panel.title.empty() ? 4.0 : 22.0), cell.right - right_room, cell.bottom - 36};
  double left = 0;
  if (panel.rows.empty()) {
    left =
        widest_tick(place.y, panel.y.unit, std::max(2, static_cast<int>(place.box.height() / 45))) + 8 + (panel.y.label.empty() ? 0 : 17);
  } else {
    const double most = 0.42 * cell.width();
    place.row_size = std::clamp(place.box.height() / static_cast<double>(panel.rows.size()) * 0.75, 6.0, kSmall);
    for (std::string& row : place.panel.rows) {
      row = shortened(row, place.row_size, most);
      left = std::max(left, text_width(row, place.row_size) + 8);
    }
  }
  place.box.left += left;
}

void reduce(PlacedPicture::Place& place) {
  const auto pixels = static_cast<int64_t>(std::max(1.0, std::ceil(place.box.width())));
  for (Curve& curve : place.panel.curves) {
    const std::vector<size_t> kept = shown_points(curve.x, curve.y, place.x, place.y, pixels);
    const auto keep = [&](std::vector<double>& values) {
      if (values.empty()) return;
      std::vector<double> out(kept.size());
      for (size_t i = 0; i < kept.size(); ++i) out[i] = values[kept[i]];
      values = std::move(out);
    };
    for (std::vector<double>* values : {&curve.x, &curve.y, &curve.low, &curve.high}) keep(*values);
  }
}

// Labels at the ends of the curves. false: they do not fit.
bool place_labels(PlacedPicture::Place& place, double room) {
  std::vector<const Curve*> curves = labelled(place.panel);
  std::erase_if(curves, [](const Curve* curve) { return curve->x.empty(); });
  std::vector<double> wanted;
  for (const Curve* curve : curves) {
    // Where it leaves the panel; a noisy curve's own last value says little, so it is the mean of its last pixels.
    const size_t count = std::min<size_t>(curve->y.size(), std::max<size_t>(1, curve->y.size() / 40));
    double sum = 0;
    for (size_t i = curve->y.size() - count; i < curve->y.size(); ++i) sum += place.y.place(curve->y[i], place.box.bottom, place.box.top);
    wanted.push_back(sum / static_cast<double>(count));
  }
  const std::vector<double> heights = spread(wanted, kLabelHeight, place.box.top + 5, place.box.bottom - 3);
  if (heights.empty()) return curves.empty();
  for (size_t i = 0; i < curves.size(); ++i) {
    const Point end{place.x.place(curves[i]->x.back(), place.box.left, place.box.right), wanted[i]};
    place.labels.push_back({{place.box.right + 14, heights[i] + 4}, end, shortened(curves[i]->label, kSmall, room - 20), curves[i]->color});
  }
  return true;
}

}  // namespace

PlacedPicture place_picture(Picture picture, PictureSize size) {
  PlacedPicture out;
  out.size = size;
  const double width = size.width - 2 * kMargin;
  std::vector<LegendEntry> entries = legend_of(picture);
  // Labels at the ends of curves need a panel alone, of lines.
  double room = 8;
  bool has_labels = picture.panels.size() == 1 && picture.panels[0].rows.empty() && entries.size() > 1;
  if (has_labels) {
    for (const LegendEntry& entry : entries) {
      room = std::max(room, 24 + text_width(entry.label, kSmall));
      has_labels &= entry.form == Curve::Form::Line;
    }
    room = std::min(room, 0.3 * size.width);
    has_labels &= static_cast<double>(entries.size()) * kLabelHeight < 0.8 * size.height;
  }
  if (!has_labels) room = 8;
  constexpr size_t kMostEntries = 24;
  if (has_labels || entries.size() > kMostEntries || entries.size() == 1) entries.clear();
  entries.insert(entries.end(), picture.notes.begin(), picture.notes.end());
  double top = kMargin + kTitle + 4;
  if (!picture.subtitle.empty()) top += 17;
  top += place_legend(entries, kMargin, top, width, out.legend);

  // Two panels a row where they stand beside each other; the last alone takes a whole row.
  const size_t count = picture.panels.size(), columns = count > 1 && size.width >= 1.1 * size.height ? 2 : 1;
  const auto rows = static_cast<double>((count + columns - 1) / columns);
  for (size_t i = 0; i < count; ++i) {
    PlacedPicture::Place place;
    place.panel = std::move(picture.panels[i]);
    const bool is_alone = columns == 1 || (i + 1 == count && count % 2 == 1);
    const double height = (size.height - top - 6) / rows, cell_width = is_alone ? width : (width - 18) / 2;
    const double left = kMargin + (is_alone || i % 2 == 0 ? 0 : cell_width + 18);
    const double above = top + height * std::floor(static_cast<double>(i) / static_cast<double>(columns));
    set_scales(place);
    set_box(place, {left, above, left + cell_width, above + height}, room);
    reduce(place);
    if (has_labels) place_labels(place, room);
    out.places.push_back(std::move(place));
  }
  picture.panels.clear();
  out.head = std::move(picture);
  return out;
}

}  // namespace zerostep
