#include "experiments/plot/svg_canvas.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/format.h"

namespace zerostep {
namespace {

// A coordinate with two decimals at most, as short as it goes.
void add_number(std::string& out, double value) {
  const auto hundredths = static_cast<int64_t>(std::llround(std::clamp(value, -1e9, 1e9) * 100));
  const int64_t size = hundredths < 0 ? -hundredths : hundredths;
  if (hundredths < 0) out += '-';
  out += fmt::format_int(size / 100).c_str();
  if (size % 100 == 0) return;
  out += '.';
  out += static_cast<char>('0' + size % 100 / 10);
  if (size % 10 != 0) out += static_cast<char>('0' + size % 10);
}

std::string number(double value) {
  std::string out;
  add_number(out, value);
  return out;
}

void add_points(std::string& out, std::span<const Point> points) {
  for (size_t i = 0; i < points.size(); ++i) {
    if (i > 0) out += ' ';
    add_number(out, points[i].x);
    out += ',';
    add_number(out, points[i].y);
  }
}

std::string paint(const char* what, const Color& color) {
  std::string out = fmt::format(" {}=\"#{:02x}{:02x}{:02x}\"", what, color.red, color.green, color.blue);
  if (color.opacity < 1) out += fmt::format(" {}-opacity=\"{:.3g}\"", what, color.opacity);
  return out;
}

std::string named(std::string_view name) { return name.empty() ? "" : fmt::format(" data-name=\"{}\"", xml_text(name)); }

class SvgCanvas final : public Canvas {
 public:
  SvgCanvas(double width, double height, const std::string& title, bool is_inline) {
    const std::string w = number(width), h = number(height);
    if (!is_inline) out_ += "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n";
    out_ += fmt::format("<svg xmlns=\"http://www.w3.org/2000/svg\"{} viewBox=\"0 0 {} {}\" role=\"img\" ",
                        is_inline ? "" : fmt::format(" width=\"{}\" height=\"{}\"", w, h), w, h);
    out_ += "font-family=\"Helvetica, Arial, 'Liberation Sans', 'DejaVu Sans', sans-serif\">\n";
    out_ += fmt::format("<title>{}</title>\n<rect width=\"{}\" height=\"{}\" fill=\"#ffffff\"/>\n", xml_text(title), w, h);
  }

  void begin_panel(const PanelFrame& frame) override {
    const Box& b = frame.box;
    const auto axis = [](const char* name, const Scale& scale, const std::string& what, const std::string& unit) {
      return fmt::format(" data-{0}=\"{1},{2},{3},{5}\" data-{0}name=\"{4}\"", name, round_trip(scale.low), round_trip(scale.high),
                         scale.is_log ? "log" : "linear", xml_text(what), unit);
    };
    // An inner picture cuts off what leaves it, and needs no name that is unique within a page, as a clip path would.
    out_ += fmt::format("<g class=\"panel\" data-box=\"{},{},{},{}\"{}{}>", number(b.left), number(b.top), number(b.width()),
                        number(b.height()), axis("x", frame.x, frame.x_name, frame.x_unit), axis("y", frame.y, frame.y_name, frame.y_unit));
    out_ += fmt::format("<svg x=\"{0}\" y=\"{1}\" width=\"{2}\" height=\"{3}\" viewBox=\"{0} {1} {2} {3}\" overflow=\"hidden\">\n",
                        number(b.left), number(b.top), number(b.width()), number(b.height()));
  }
  void end_panel() override { out_ += "</svg></g>\n"; }

  void line(std::span<const Point> points, const Stroke& stroke, std::string_view name) override {
    out_ += "<polyline fill=\"none\"" + paint("stroke", stroke.color);
    if (stroke.width != 1) out_ += fmt::format(" stroke-width=\"{}\"", number(stroke.width));
    if (!stroke.dashes.empty()) {
      out_ += " stroke-dasharray=\"";
      for (size_t i = 0; i < stroke.dashes.size(); ++i) out_ += (i > 0 ? " " : "") + number(stroke.dashes[i]);
      out_ += '"';
    }
    if (points.size() > 2) out_ += " stroke-linejoin=\"round\"";
    out_ += named(name) + " points=\"";
    add_points(out_, points);
    out_ += "\"/>\n";
  }

  void polygon(std::span<const Point> points, const Color& fill, std::string_view name) override {
    out_ += "<polygon" + paint("fill", fill) + named(name) + " points=\"";
    add_points(out_, points);
    out_ += "\"/>\n";
  }

  void dots(std::span<const Point> centres, double radius, const Color& fill, std::string_view name) override {
    out_ += "<g" + paint("fill", fill) + named(name) + ">";
    for (const Point& p : centres) out_ += fmt::format("<circle cx=\"{}\" cy=\"{}\" r=\"{}\"/>", number(p.x), number(p.y), number(radius));
    out_ += "</g>\n";
  }

  void text(Point at, std::string_view text, const TextStyle& style) override {
    out_ += fmt::format("<text x=\"{}\" y=\"{}\" font-size=\"{}\"{}", number(at.x), number(at.y), number(style.size),
                        paint("fill", style.color));
    if (style.anchor != Anchor::Start) out_ += style.anchor == Anchor::Middle ? " text-anchor=\"middle\"" : " text-anchor=\"end\"";
    if (style.is_bold) out_ += " font-weight=\"bold\"";
    if (style.is_upright) out_ += fmt::format(" transform=\"rotate(-90 {} {})\"", number(at.x), number(at.y));
    out_ += ">" + xml_text(text) + "</text>\n";
  }

  std::string finish() override { return std::move(out_) + "</svg>\n"; }

 private:
  std::string out_;
};

}  // namespace

std::unique_ptr<Canvas> make_svg_canvas(double width, double height, const std::string& title, bool is_inline) {
  return std::make_unique<SvgCanvas>(width, height, title, is_inline);
}

std::string xml_text(std::string_view text) {
  std::string out;
  for (char c : text) {
    if (c == '&')
      out += "&amp;";
    else if (c == '<')
      out += "&lt;";
    else if (c == '>')
      out += "&gt;";
    else if (c == '"')
      out += "&quot;";
    else if (c == '\'')
      out += "&#39;";
    else if (static_cast<unsigned char>(c) < 32 && c != '\n' && c != '\t')
      out += "\uFFFD";
    else
      out += c;
  }
  return out;
}

}  // namespace zerostep
