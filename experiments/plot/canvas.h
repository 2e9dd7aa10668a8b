#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace zerostep {

// Pixels from the upper left corner of a picture.
struct Point {
  double x = 0, y = 0;
};

struct Box {
  double left = 0, top = 0, right = 0, bottom = 0;
  double width() const { return right - left; }
  double height() const { return bottom - top; }
};

struct Color {
  uint8_t red = 0, green = 0, blue = 0;
  double opacity = 1;
  Color faded(double by) const { return {red, green, blue, opacity * by}; }
};

struct Stroke {
  Color color;
  double width = 1;
  std::vector<double> dashes;  // lengths drawn and left out in turn; none: solid
};

enum class Anchor : uint8_t { Start, Middle, End };

struct TextStyle {
  double size = 11;  // pixels
  Color color;
  Anchor anchor = Anchor::Start;
  bool is_bold = false;
  bool is_upright = false;  // turned by 90 degrees, read from below
};

// The values at the two ends of an axis; low may be the larger one.
struct Scale {
  double low = 0, high = 1;
  bool is_log = false;
  // Where a value lies between the pixels `from` (low) and `to` (high), and the value that lies there.
  double to_pixel(double value, double from, double to) const;
  double to_value(double pixel, double from, double to) const;
};

// Where the values of a panel lie, for what shows them under a pointer.
struct PanelFrame {
  Box box;
  Scale x, y;
  std::string x_name, y_name;  // "": no values, but names of rows
  std::string x_unit, y_unit;  // "bytes", "seconds" or ""
};

// What a picture is drawn on. The parts of a panel that leave its box are cut off.
class Canvas {
 public:
  virtual ~Canvas() = default;
  virtual void begin_panel(const PanelFrame& frame) = 0;
  virtual void end_panel() = 0;
  // `name`: what the line shows, "" for grids and frames.
  virtual void line(std::span<const Point> points, const Stroke& stroke, std::string_view name) = 0;
  virtual void polygon(std::span<const Point> points, const Color& fill, std::string_view name) = 0;
  virtual void dots(std::span<const Point> centres, double radius, const Color& fill, std::string_view name) = 0;
  // At the baseline; `text` is UTF-8.
  virtual void text(Point at, std::string_view text, const TextStyle& style) = 0;
  // The bytes of the file; the canvas is done then.
  virtual std::string finish() = 0;
};

}  // namespace zerostep
