#include <cairo-pdf.h>
#include <cairo.h>

#include <cmath>
#include <string>

#include "base/error.h"
#include "experiments/plot/cairo_library.h"
#include "experiments/plot/text_width.h"

namespace zerostep {
namespace {

cairo_status_t append(void* target, const unsigned char* data, unsigned int size) {
  static_cast<std::string*>(target)->append(reinterpret_cast<const char*>(data), size);
  return CAIRO_STATUS_SUCCESS;
}

class CairoCanvas final : public Canvas {
 public:
  CairoCanvas(const std::string& format, double width, double height, const char* title) : is_pdf_(format == "pdf") {
    // A point of a PDF page is 4/3 of a pixel, so that the page is as large as the picture on a screen.
    constexpr double kPointsPerPixel = 0.75;
    if (is_pdf_) {
      surface_ = cairo_pdf_surface_create_for_stream(append, &bytes_, width * kPointsPerPixel, height * kPointsPerPixel);
      cairo_pdf_surface_set_metadata(surface_, CAIRO_PDF_METADATA_TITLE, title);
    } else {
      surface_ =
          cairo_image_surface_create(CAIRO_FORMAT_RGB24, static_cast<int>(std::lround(width)), static_cast<int>(std::lround(height)));
    }
    cairo_ = cairo_create(surface_);
    check();
    if (is_pdf_) cairo_scale(cairo_, kPointsPerPixel, kPointsPerPixel);
    cairo_set_source_rgb(cairo_, 1, 1, 1);
    cairo_paint(cairo_);
    cairo_set_line_join(cairo_, CAIRO_LINE_JOIN_ROUND);
  }
  ~CairoCanvas() override {
    cairo_destroy(cairo_);
    cairo_surface_destroy(surface_);
  }
  CairoCanvas(const CairoCanvas&) = delete;
  CairoCanvas& operator=(const CairoCanvas&) = delete;

  void begin_panel(const PanelFrame& frame) override {
    cairo_save(cairo_);
    cairo_rectangle(cairo_, frame.box.left, frame.box.top, frame.box.width(), frame.box.height());
    cairo_clip(cairo_);
  }
  void end_panel() override { cairo_restore(cairo_); }

  void line(std::span<const Point> points, const Stroke& stroke, std::string_view) override {
    path(points);
    set_color(stroke.color);
    cairo_set_line_width(cairo_, stroke.width);
    cairo_set_dash(cairo_, stroke.dashes.data(), static_cast<int>(stroke.dashes.size()), 0);
    cairo_stroke(cairo_);
  }
  void polygon(std::span<const Point> points, const Color& fill, std::string_view) override {
    path(points);
    cairo_close_path(cairo_);
    set_color(fill);
    cairo_fill(cairo_);
  }
  void dots(std::span<const Point> centres, double radius, const Color& fill, std::string_view) override {
    set_color(fill);
    for (const Point& p : centres) {
      cairo_new_path(cairo_);
      cairo_arc(cairo_, p.x, p.y, radius, 0, 2 * M_PI);
      cairo_fill(cairo_);
    }
  }

  void text(Point at, std::string_view text, const TextStyle& style) override {
    const std::string copy(text);
    cairo_select_font_face(cairo_, "Helvetica", CAIRO_FONT_SLANT_NORMAL, style.is_bold ? CAIRO_FONT_WEIGHT_BOLD : CAIRO_FONT_WEIGHT_NORMAL);
    cairo_set_font_size(cairo_, style.size);
    cairo_text_extents_t extents;
    cairo_text_extents(cairo_, copy.c_str(), &extents);
    // The font at hand may be wider than the room that was left for the text.
    const double room = text_width(text, style.size, style.is_bold);
    const double squeezed = extents.x_advance > room && room > 0 ? room / extents.x_advance : 1;
    const double width = extents.x_advance * squeezed;
    cairo_save(cairo_);
    cairo_translate(cairo_, at.x, at.y);
    if (style.is_upright) cairo_rotate(cairo_, -M_PI / 2);
    cairo_translate(cairo_, style.anchor == Anchor::Start ? 0 : style.anchor == Anchor::End ? -width : -width / 2, 0);
    cairo_scale(cairo_, squeezed, 1);
    cairo_move_to(cairo_, 0, 0);
    set_color(style.color);
    cairo_show_text(cairo_, copy.c_str());
    cairo_restore(cairo_);
    cairo_new_path(cairo_);
  }

  std::string finish() override {
    check();
    if (is_pdf_)
      cairo_surface_finish(surface_);
    else if (const cairo_status_t status = cairo_surface_write_to_png_stream(surface_, append, &bytes_); status != CAIRO_STATUS_SUCCESS)
      fail_run("cairo cannot write a PNG file: {}", cairo_status_to_string(status));
    check();
    return std::move(bytes_);
  }

 private:
  void path(std::span<const Point> points) {
    cairo_new_path(cairo_);
    for (const Point& p : points) cairo_line_to(cairo_, p.x, p.y);
  }
  void set_color(const Color& c) { cairo_set_source_rgba(cairo_, c.red / 255.0, c.green / 255.0, c.blue / 255.0, c.opacity); }
  void check() const {
    for (const cairo_status_t status : {cairo_surface_status(surface_), cairo_status(cairo_)})
      if (status != CAIRO_STATUS_SUCCESS) fail_run("cairo cannot draw: {}", cairo_status_to_string(status));
  }

  bool is_pdf_;
  std::string bytes_;
  cairo_surface_t* surface_ = nullptr;
  cairo_t* cairo_ = nullptr;
};

}  // namespace
}  // namespace zerostep

void zerostep_open_cairo_canvas_1(const char* format, double width, double height, const char* title,
                                  std::unique_ptr<zerostep::Canvas>& canvas) {
  canvas = std::make_unique<zerostep::CairoCanvas>(format, width, height, title);
}
