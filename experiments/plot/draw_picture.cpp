#include "experiments/plot/draw_picture.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "experiments/plot/colors.h"
#include "experiments/plot/picture_layout.h"
#include "experiments/plot/scaled_canvas.h"
#include "experiments/plot/svg_canvas.h"
#include "experiments/plot/text_width.h"

namespace zerostep {
namespace {

constexpr double kLine = 1.5, kMostBar = 34;
// Dashes that can be told from each other.
const std::array<std::vector<double>, 5> kDashes{{{5, 3}, {1.5, 2.5}, {9, 3, 1.5, 3}, {11, 4}, {5, 2.5, 1.5, 2.5, 1.5, 2.5}}};

double at_x(const PlacedPanel& placed, double value) { return placed.x.to_pixel(value, placed.box.left, placed.box.right); }
double at_y(const PlacedPanel& placed, double value) { return placed.y.to_pixel(value, placed.box.bottom, placed.box.top); }

Stroke stroke_of(Curve::Form form, const Color& color, size_t dashes) {
  if (form == Curve::Form::Dashed) return {color, kLine, kDashes[dashes % kDashes.size()]};
  if (form == Curve::Form::Faint) return {color.faded(0.25), 1, {}};
  return {color, kLine, {}};
}

void draw_axes(const PlacedPanel& placed, Canvas& canvas) {
  const Box& box = placed.box;
  const auto rule = [&](Point from, Point to, const Color& color) { canvas.line(std::array{from, to}, {color, 1, {}}, ""); };
  double right_of_last = -kTextSize;
  for (const Tick& tick : placed.x_ticks) {
    const double x = at_x(placed, tick.value), half = text_width(tick.label, kTextSize) / 2;
    rule({x, box.top}, {x, box.bottom}, tick.label.empty() ? kGrid.faded(0.5) : kGrid);
    if (tick.label.empty() || x - half < right_of_last + kTextSize / 2) continue;  // marks may stand closer than their texts are wide
    canvas.text({x, box.bottom + 14}, tick.label, {kTextSize, kPale, Anchor::Middle});
    right_of_last = x + half;
  }
  for (const Tick& tick : placed.y_ticks) {
    const double y = at_y(placed, tick.value);
    rule({box.left, y}, {box.right, y}, tick.label.empty() ? kGrid.faded(0.5) : kGrid);
    if (!tick.label.empty()) canvas.text({box.left - kTickGap, y + 4}, tick.label, {kTextSize, kPale, Anchor::End});
  }
  for (size_t i = 0; i < placed.panel.rows.size(); i += placed.row_stride)
    canvas.text({box.left - kTickGap, at_y(placed, static_cast<double>(i)) + 0.35 * placed.row_size}, placed.row_names[i],
                {placed.row_size, kInk, Anchor::End});
  canvas.line(std::array{Point{box.left, box.top}, Point{box.left, box.bottom}, Point{box.right, box.bottom}}, {kFrame, 1, {}}, "");
  canvas.text({placed.x_label_middle, box.bottom + 29}, placed.x_label, {kTextSize, kInk, Anchor::Middle});
}

// What of a panel lies within its box.
void draw_values(const PlacedPanel& placed, Canvas& canvas) {
  const bool has_values = placed.panel.rows.empty();
  canvas.begin_panel({placed.box, placed.x, placed.y, placed.panel.x.label, has_values ? placed.panel.y.label : "",
                      std::string(name_of(placed.panel.x.unit)), std::string(name_of(placed.panel.y.unit))});
  for (const Curve& curve : placed.panel.curves) {
    if (curve.low.empty()) continue;
    // A logarithmic scale has no place for 0 and below, which a band around a positive mean may reach: it goes to the scale's end there.
    const double least = placed.y.is_log ? placed.y.low : -std::numeric_limits<double>::infinity();
    std::vector<Point> edge;
    for (size_t i = 0; i < curve.x.size(); ++i) edge.push_back({at_x(placed, curve.x[i]), at_y(placed, std::max(least, curve.high[i]))});
    for (size_t i = curve.x.size(); i-- > 0;) edge.push_back({at_x(placed, curve.x[i]), at_y(placed, std::max(least, curve.low[i]))});
    canvas.polygon(edge, curve.color.faded(0.18), "");
  }
  for (const Block& block : placed.panel.blocks) {
    const double left = at_x(placed, block.left), right = std::max(left + 0.3, at_x(placed, block.right));
    // Of few rows in a high panel the bars stay slender.
    const double middle = at_y(placed, (block.top + block.bottom) / 2);
    const double half = std::min(kMostBar / 2, std::abs(at_y(placed, block.bottom) - middle)), top = middle - half, bottom = middle + half;
    canvas.polygon(std::array{Point{left, top}, Point{right, top}, Point{right, bottom}, Point{left, bottom}}, block.color,
                   block.run + ", " + block.what + ": " + short_value(block.right - block.left, placed.panel.x.unit));
    if (!block.label.empty() && bottom - top > 10 && text_width(block.label, 10) < right - left - 6)
      canvas.text({(left + right) / 2, (top + bottom) / 2 + 3.5}, block.label, {10, {255, 255, 255}, Anchor::Middle});
  }
  const auto draw_curve = [&](const Curve& curve) {
    std::vector<Point> points;
    for (size_t i = 0; i < curve.x.size(); ++i) {
      double y = at_y(placed, curve.y[i]);
      if (!placed.panel.rows.empty()) {  // a mark, little higher than a bar
        const double middle = at_y(placed, std::round(curve.y[i]));
        y = std::clamp(y, middle - 0.65 * kMostBar, middle + 0.65 * kMostBar);
      }
      points.push_back({at_x(placed, curve.x[i]), y});
    }
    const std::string name =
        curve.label.empty() ? curve.run : curve.run + (curve.form == Curve::Form::Dashed ? " (" + curve.what + ")" : "");
    if (curve.form == Curve::Form::Dots || points.size() == 1)
      canvas.dots(points, points.size() > 300 ? 1.5 : 3, curve.color.faded(0.85), name);
    else
      canvas.line(points, stroke_of(curve.form, curve.color, curve.dashes), curve.form == Curve::Form::Faint ? "" : name);
    // Of an evaluation with few points it is seen where they are.
    constexpr size_t kFew = 12;
    if (curve.what.starts_with("eval_") && points.size() > 1 && points.size() <= kFew && curve.form != Curve::Form::Faint)
      canvas.dots(points, 2.2, curve.color, "");
  };
  for (bool are_faint : {true, false})
    for (const Curve& curve : placed.panel.curves)
      if ((curve.form == Curve::Form::Faint) == are_faint) draw_curve(curve);
  canvas.end_panel();
}

void draw_panel(const PlacedPanel& placed, Canvas& canvas) {
  const Box& box = placed.box;
  if (!placed.title.empty()) canvas.text({placed.title_left, box.top - 8}, placed.title, {kPanelTitleSize, kInk, Anchor::Start, true});
  draw_axes(placed, canvas);
  if (!placed.y_label.empty())
    canvas.text({placed.y_label_baseline, (box.top + box.bottom) / 2}, placed.y_label, {kTextSize, kInk, Anchor::Middle, false, true});
  draw_values(placed, canvas);
  for (const PlacedPanel::Label& label : placed.labels) {
    canvas.line(std::array{label.from, Point{box.right, label.from.y}, Point{box.right + kLeadWidth - 3, label.at.y - 4}},
                {label.color.faded(0.5), 1, {1, 3}}, "");
    canvas.text(label.at, label.text, {kTextSize, label.color});
  }
}

}  // namespace

void draw(const PlacedPicture& picture, Canvas& whole) {
  const std::unique_ptr<Canvas> scaled = picture.factor == 1 ? nullptr : make_scaled_canvas(whole, picture.factor);
  Canvas& canvas = scaled ? *scaled : whole;
  const double width = picture.size.width / picture.factor - 2 * kPictureEdge;
  canvas.text({kPictureEdge, kPictureEdge + kPictureTitleSize - 3}, shortened(picture.head.title, kPictureTitleSize * kBolderText, width),
              {kPictureTitleSize, kInk, Anchor::Start, true});
  double line = kPictureEdge + kPictureTitleSize + kSubtitleLine;
  for (const std::string& text : picture.subtitle) {
    canvas.text({kPictureEdge, line}, text, {kTextSize, kPale});
    line += kSubtitleLine;
  }
  for (const PlacedPicture::Entry& entry : picture.legend) {
    const Point at = entry.at;
    if (entry.entry.is_text) {
      canvas.text({at.x, at.y + 4}, entry.entry.label, {kTextSize, entry.entry.color});
      continue;
    }
    if (entry.entry.is_block)
      canvas.polygon(
          std::array{Point{at.x + 4, at.y - 4}, Point{at.x + 18, at.y - 4}, Point{at.x + 18, at.y + 4}, Point{at.x + 4, at.y + 4}},
          entry.entry.color, "");
    else if (entry.entry.form == Curve::Form::Dots)
      canvas.dots(std::array{Point{at.x + 11, at.y}}, 3.5, entry.entry.color, "");
    else
      canvas.line(std::array{at, Point{at.x + kLegendMark - 5, at.y}},
                  {entry.entry.color, 2, stroke_of(entry.entry.form, entry.entry.color, entry.entry.dashes).dashes}, "");
    canvas.text({at.x + kLegendMark, at.y + 4}, entry.entry.label, {kTextSize, kInk});
  }
  for (const PlacedPanel& placed : picture.panels) draw_panel(placed, canvas);
}

std::string svg_of(const PlacedPicture& picture, bool is_inline) {
  const auto canvas = make_svg_canvas(picture.size.width, picture.size.height, picture.head.title, is_inline);
  draw(picture, *canvas);
  return canvas->finish();
}

}  // namespace zerostep
