#include <gtest/gtest.h>

#include <cmath>
#include <sstream>

#include "experiments/plot/draw_picture.h"
#include "experiments/plot/svg_canvas.h"
#include "tests/experiments/support/made_runs.h"
#include "tests/support/expect_says.h"

namespace zerostep {
namespace {

using testing::wrong_with_xml;

Picture simple_picture(bool is_log) {
  Picture out;
  out.name = "test";
  out.title = "A < B & \"C\"";
  Panel panel;
  panel.x = {"step", AxisUnit::Number, false};
  panel.y = {"loss", AxisUnit::Number, is_log};
  for (const char* name : {"first", "second"}) {
    Curve curve;
    curve.run = curve.label = name;
    curve.what = "loss";
    curve.color = {0, 114, 178};
    for (int i = 0; i <= 50; ++i) {
      curve.x.push_back(i);
      curve.y.push_back(i % 7 + (name[0] == 'f' ? 1 : 2));
    }
    panel.curves.push_back(curve);
  }
  out.panels.push_back(panel);
  return out;
}

std::string svg_text(const PlacedPicture& picture) {
  const auto canvas = make_svg_canvas(picture.size.width, picture.size.height, picture.head.title, false);
  draw(picture, *canvas);
  return canvas->finish();
}

// The value of an attribute of the first tag that holds `what`.
std::string attribute(const std::string& svg, const std::string& what, const std::string& name) {
  const size_t at = svg.find(what);
  const size_t tag = svg.rfind('<', at), begin = svg.find(" " + name + "=\"", tag) + name.size() + 3;
  return svg.substr(begin, svg.find('"', begin) - begin);
}

std::vector<double> numbers(std::string text) {
  for (char& c : text)
    if (c == ',') c = ' ';
  std::istringstream in(text);
  std::vector<double> out;
  for (double value = 0; in >> value;) out.push_back(value);
  return out;
}

class PlotPicture : public ::testing::TestWithParam<bool> {};

TEST_P(PlotPicture, HasItsPointsWhereItsAxesSay) {
  const bool is_log = GetParam();
  const Picture picture = simple_picture(is_log);
  const std::string svg = svg_text(place_picture(picture, {800, 500}));
  EXPECT_EQ(wrong_with_xml(svg), "");
  EXPECT_SAYS(svg, "width=\"800\" height=\"500\" viewBox=\"0 0 800 500\"");
  EXPECT_SAYS(svg, "<title>A &lt; B &amp; &quot;C&quot;</title>");
  const std::vector<double> box = numbers(attribute(svg, "class=\"panel\"", "data-box"));
  const std::vector<double> x = numbers(attribute(svg, "class=\"panel\"", "data-x")),
                            y = numbers(attribute(svg, "class=\"panel\"", "data-y"));
  ASSERT_EQ(box.size(), 4U);
  EXPECT_EQ(x[0], 0);
  EXPECT_EQ(x[1], 50);
  for (size_t c = 0; c < 2; ++c) {
    const Curve& curve = picture.panels[0].curves[c];
    const std::vector<double> points = numbers(attribute(svg, "data-name=\"" + curve.run + "\"", "points"));
    ASSERT_EQ(points.size(), 2 * curve.x.size());
    for (size_t i = 0; i < curve.x.size(); ++i) {
      const double at = is_log ? std::log(curve.y[i] / y[0]) / std::log(y[1] / y[0]) : (curve.y[i] - y[0]) / (y[1] - y[0]);
      // Coordinates have two decimals.
      EXPECT_NEAR(points[2 * i], box[0] + box[2] * curve.x[i] / 50, 0.0051 + 0.0051);
      EXPECT_NEAR(points[2 * i + 1], box[1] + box[3] * (1 - at), 0.0051 + 0.0051) << i;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Scales, PlotPicture, ::testing::Bool());

TEST(PlotPictures, LabelsStandWithinThePictureAndApart) {
  const PlacedPicture placed = place_picture(simple_picture(false), {960, 600});
  ASSERT_EQ(placed.places.size(), 1U);
  const std::vector<PlacedPicture::Label>& labels = placed.places[0].labels;
  ASSERT_EQ(labels.size(), 2U);
  EXPECT_TRUE(placed.legend.empty());
  EXPECT_GE(std::abs(labels[0].at.y - labels[1].at.y), 13);
  for (const PlacedPicture::Label& label : labels) {
    EXPECT_GT(label.at.x, placed.places[0].box.right);
    EXPECT_LT(label.at.x, 940);
  }
}

TEST(PlotPictures, ManyCurvesHaveALegendAndFarMoreHaveNone) {
  Picture picture = simple_picture(false);
  const Curve one = picture.panels[0].curves[0];
  picture.panels[0].curves.clear();
  const auto with = [&](int count) {
    Picture out = picture;
    for (int i = 0; i < count; ++i) {
      out.panels[0].curves.push_back(one);
      out.panels[0].curves.back().label = out.panels[0].curves.back().run = "run-" + std::to_string(i);
    }
    return place_picture(std::move(out), {500, 300});
  };
  EXPECT_EQ(with(5).places[0].labels.size(), 5U);
  const PlacedPicture some = with(20);
  EXPECT_TRUE(some.places[0].labels.empty());
  ASSERT_EQ(some.legend.size(), 20U);
  for (const PlacedPicture::Entry& entry : some.legend) EXPECT_LT(entry.at.y, some.places[0].box.top);
  EXPECT_TRUE(with(80).legend.empty());
}

TEST(PlotPictures, TextIsEscaped) { EXPECT_EQ(xml_text("a<b>&\"'\x01z"), "a&lt;b&gt;&amp;&quot;&#39;\uFFFDz"); }

}  // namespace
}  // namespace zerostep
