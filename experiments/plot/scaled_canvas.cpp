#include "experiments/plot/scaled_canvas.h"

namespace zerostep {
namespace {

class ScaledCanvas final : public Canvas {
 public:
  ScaledCanvas(Canvas& canvas, double factor) : canvas_(canvas), factor_(factor) {}

  void begin_panel(const PanelFrame& frame) override {
    PanelFrame out = frame;
    for (double* side : {&out.box.left, &out.box.top, &out.box.right, &out.box.bottom}) *side *= factor_;
    canvas_.begin_panel(out);
  }
  void end_panel() override { canvas_.end_panel(); }
  void line(std::span<const Point> points, const Stroke& stroke, std::string_view name) override {
    Stroke out = stroke;
    out.width *= factor_;
    for (double& dash : out.dashes) dash *= factor_;
    canvas_.line(scaled(points), out, name);
  }
  void polygon(std::span<const Point> points, const Color& fill, std::string_view name) override {
    canvas_.polygon(scaled(points), fill, name);
  }
  void dots(std::span<const Point> centres, double radius, const Color& fill, std::string_view name) override {
    canvas_.dots(scaled(centres), radius * factor_, fill, name);
  }
  void text(Point at, std::string_view text, const TextStyle& style) override {
    TextStyle out = style;
    out.size *= factor_;
    canvas_.text({at.x * factor_, at.y * factor_}, text, out);
  }
  std::string finish() override { return canvas_.finish(); }

 private:
  std::vector<Point> scaled(std::span<const Point> points) const {
    std::vector<Point> out(points.begin(), points.end());
    for (Point& point : out) point = {point.x * factor_, point.y * factor_};
    return out;
  }
  Canvas& canvas_;
  double factor_;
};

}  // namespace

std::unique_ptr<Canvas> make_scaled_canvas(Canvas& canvas, double factor) { return std::make_unique<ScaledCanvas>(canvas, factor); }

}  // namespace zerostep
