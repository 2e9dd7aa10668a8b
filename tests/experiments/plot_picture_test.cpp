#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <regex>
#include <set>

#include "experiments/plot/draw_picture.h"
#include "experiments/plot/place_picture.h"
#include "experiments/plot/svg_canvas.h"
#include "experiments/plot/text_width.h"
#include "tests/experiments/support/made_runs.h"
#include "tests/experiments/support/picture_text.h"
#include "tests/support/expect_says.h"

namespace zerostep {
namespace {

using testing::attribute_of;
using testing::numbers_of;
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

// The numbers in an attribute of the first tag that holds `what`.
std::vector<double> numbers(const std::string& svg, const std::string& what, const std::string& name) {
  return numbers_of(attribute_of(svg, svg.rfind('<', svg.find(what)), name));
}

class PlotPicture : public ::testing::TestWithParam<bool> {};

TEST_P(PlotPicture, HasItsPointsWhereItsAxesSay) {
  const bool is_log = GetParam();
  const Picture picture = simple_picture(is_log);
  const std::string svg = svg_of(place_picture(picture, {800, 500}), false);
  EXPECT_EQ(wrong_with_xml(svg), "");
  EXPECT_SAYS(svg, "width=\"800\" height=\"500\" viewBox=\"0 0 800 500\"");
  EXPECT_SAYS(svg, "<title>A &lt; B &amp; &quot;C&quot;</title>");
  const std::vector<double> box = numbers(svg, "class=\"panel\"", "data-box");
  const std::vector<double> x = numbers(svg, "class=\"panel\"", "data-x"), y = numbers(svg, "class=\"panel\"", "data-y");
  ASSERT_EQ(box.size(), 4U);
  EXPECT_EQ(x[0], 0);
  EXPECT_EQ(x[1], 50);
  for (size_t c = 0; c < 2; ++c) {
    const Curve& curve = picture.panels[0].curves[c];
    const std::vector<double> points = numbers(svg, "data-name=\"" + curve.run + "\"", "points");
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
  ASSERT_EQ(placed.panels.size(), 1U);
  const std::vector<PlacedPanel::Label>& labels = placed.panels[0].labels;
  ASSERT_EQ(labels.size(), 2U);
  EXPECT_TRUE(placed.legend.empty());
  EXPECT_GE(std::abs(labels[0].at.y - labels[1].at.y), 13);
  for (const PlacedPanel::Label& label : labels) {
    EXPECT_GT(label.at.x, placed.panels[0].box.right);
    EXPECT_LT(label.at.x, 940);
  }
}

// Of several panels each names its own curves, beside its box and within its cell; what lies in points is named by the legend.
TEST(PlotPictures, LabelsStandAtTheEndsOfCurvesOfSeveralPanels) {
  for (const PictureSize size : {PictureSize{960, 600}, PictureSize{430, 1200}}) {
    const auto with = [&](const std::string& name) {
      Picture picture = simple_picture(false);
      picture.panels[0].title = "Loss";
      picture.panels[0].curves[0].label = name;
      Panel dots = picture.panels[0], rows = dots;
      dots.curves[0].label = "of points";
      dots.curves[1].label = "";
      for (Curve& curve : dots.curves) curve.form = Curve::Form::Dots;
      rows.rows = {"a", "b"};
      rows.curves.clear();
      picture.panels.insert(picture.panels.end(), {dots, rows, picture.panels[0]});
      picture.panels[3].curves.erase(picture.panels[3].curves.begin());
      return place_picture(std::move(picture), size);
    };
    const PlacedPicture placed = with("first");
    const std::vector<std::vector<std::string>> wanted{{"first", "second"}, {}, {}, {"second"}};
    ASSERT_EQ(placed.panels.size(), wanted.size());
    for (size_t i = 0; i < wanted.size(); ++i) {
      std::vector<std::string> found;
      for (const PlacedPanel::Label& label : placed.panels[i].labels) {
        found.push_back(label.text);
        EXPECT_GT(label.at.x, placed.panels[i].box.right);
        const double end = i % 2 == 0 && size.width > size.height ? size.width / 2 : size.width;
        EXPECT_LE(label.at.x + text_width(label.text, 11), end - 14 / 2.0);  // the gap between two panels is shared, and so is the edge
      }
      EXPECT_EQ(found, wanted[i]) << i;
    }
    ASSERT_EQ(placed.legend.size(), 1U);
    EXPECT_EQ(placed.legend[0].entry.label, "of points");
    // Names without room at the ends of any panel's curves are in the legend, all of them.
    const PlacedPicture wide = with("a run with a name that is far too long for a third of a panel's width");
    for (const PlacedPanel& panel : wide.panels) EXPECT_TRUE(panel.labels.empty());
    EXPECT_EQ(wide.legend.size(), 3U);
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
  EXPECT_EQ(with(5).panels[0].labels.size(), 5U);
  const PlacedPicture some = with(20);
  EXPECT_TRUE(some.panels[0].labels.empty());
  ASSERT_EQ(some.legend.size(), 20U);
  for (const PlacedPicture::Entry& entry : some.legend) EXPECT_LT(entry.at.y, some.panels[0].box.top);
  EXPECT_TRUE(some.unnamed.empty());
  const PlacedPicture many = with(80);
  EXPECT_TRUE(many.legend.empty());
  EXPECT_EQ(many.unnamed.size(), 80U);
}

// A panel of bars with long names that only their middles tell apart.
Panel rows_panel() {
  Panel out;
  out.title = "Device";
  out.x = {"highest so far", AxisUnit::Bytes, false, true};
  for (const char* lr : {"0.001", "0.0003"})
    for (const char* seed : {"1", "2", "3"}) {
      const auto row = static_cast<double>(out.rows.size());
      out.rows.push_back(std::string("optimizer.params.lr=") + lr + ",model.preset=gpt2-20M,mode=fo,seed=" + seed);
      out.blocks.push_back({out.rows.back(), "bytes", 0, 1e6, row - 0.3, row + 0.3, {0, 114, 178}, ""});
    }
  return out;
}

TEST(PlotPictures, NamesOfRowsStayApartAtEverySize) {
  for (const PictureSize size : {PictureSize{960, 600}, PictureSize{430, 600}, PictureSize{400, 300}}) {
    Picture picture;
    picture.title = "Memory";
    picture.panels = {rows_panel(), rows_panel()};
    const PlacedPicture placed = place_picture(std::move(picture), size);
    ASSERT_EQ(placed.panels.size(), 2U);
    for (const PlacedPanel& panel : placed.panels) {
      EXPECT_EQ(panel.panel.rows, rows_panel().rows);  // the data have them whole
      const std::set<std::string> names(panel.row_names.begin(), panel.row_names.end());
      EXPECT_EQ(names.size(), 6U) << size.width;
      for (const std::string& name : names) {
        EXPECT_NE(name.find("seed="), std::string::npos) << name;
        EXPECT_LE(panel.left + text_width(name, panel.row_size), panel.box.left);
      }
    }
  }
}

// Where each text of a picture lies in the widest usual font: left, top, right, bottom.
std::vector<Box> texts_of(const std::string& svg) {
  static const std::regex kText(R"re(<text x="([\d.-]+)" y="([\d.-]+)" font-size="([\d.]+)"([^>]*)>([^<]*)<)re");
  std::vector<Box> out;
  for (std::sregex_iterator it(svg.begin(), svg.end(), kText), end; it != end; ++it) {
    const std::string attributes = (*it)[4];
    const double x = std::stod((*it)[1]), y = std::stod((*it)[2]), size = std::stod((*it)[3]);
    const bool is_bold = attributes.find("bold") != std::string::npos;
    const double width = text_width(std::string((*it)[5]), size, is_bold), height = 0.7 * size;
    const double before = attributes.find("\"middle\"") != std::string::npos ? width / 2
                          : attributes.find("\"end\"") != std::string::npos  ? width
                                                                             : 0;
    // A turned text reads from below.
    if (attributes.find("rotate(-90") != std::string::npos)
      out.push_back({x - height, y + before - width, x, y + before});
    else
      out.push_back({x - before, y - height, x - before + width, y});
  }
  return out;
}

// With turned labels from one letter to more than any of these panels is high.
TEST(PlotPictures, TextsDoNotOverlapAtTheSmallestSizes) {
  for (const PictureSize size : {PictureSize{400, 300}, PictureSize{400, 900}, PictureSize{900, 300}, PictureSize{480, 320}})
    for (size_t panels : {1U, 2U, 4U, 6U}) {
      int turned = 0;
      for (size_t letters = 1; letters < 160; letters += 3) {
        Picture picture = simple_picture(false);
        picture.subtitle = "18 runs, together where no more than the seed differs; means as far as all of them go, in a band";
        picture.panels[0].title = "Norm of the gradient, or of its estimate";
        picture.panels[0].y.label = std::string(letters, 'n');
        picture.panels[0].x.label = "forward passes (a backward counts as 2)";
        while (picture.panels.size() < panels) picture.panels.push_back(picture.panels[0]);
        const PlacedPicture placed = place_picture(std::move(picture), size);
        EXPECT_EQ(placed.size.width, size.width);
        const std::string svg = svg_of(placed, false);
        turned += svg.find("rotate(-90") != std::string::npos ? 1 : 0;
        const std::vector<Box> texts = texts_of(svg);
        ASSERT_GT(texts.size(), 8U);
        for (size_t i = 0; i < texts.size(); ++i) {
          EXPECT_GE(texts[i].left, 0);
          EXPECT_GE(texts[i].top, 0);
          EXPECT_LE(texts[i].right, size.width);
          EXPECT_LE(texts[i].bottom, size.height);
          for (size_t k = i + 1; k < texts.size(); ++k)
            ASSERT_FALSE(texts[i].left < texts[k].right && texts[k].left < texts[i].right && texts[i].top < texts[k].bottom &&
                         texts[k].top < texts[i].bottom)
                << size.width << "x" << size.height << ", " << panels << " panels, a label of " << letters << " letters: text " << i
                << " and " << k << "\n"
                << svg;
        }
        for (const PlacedPanel& panel : placed.panels) EXPECT_GT(panel.box.height(), 40);
      }
      EXPECT_GE(turned, 5);
      EXPECT_LT(turned, 50);
    }
}

TEST(PlotPictures, ALegendThatIsTooHighSaysHowManyItLeavesOut) {
  Picture picture = simple_picture(false);
  const Curve one = picture.panels[0].curves[0];
  picture.panels[0].curves.clear();
  for (int i = 0; i < 24; ++i) {
    picture.panels[0].curves.push_back(one);
    picture.panels[0].curves.back().label = "a run with quite a long name that fills a line, number " + std::to_string(i);
  }
  const PlacedPicture placed = place_picture(std::move(picture), {400, 300});
  ASSERT_GT(placed.legend.size(), 1U);
  const LegendEntry& last = placed.legend.back().entry;
  EXPECT_TRUE(last.is_text);
  const size_t named = placed.legend.size() - 1;
  EXPECT_EQ(last.label, "and " + std::to_string(24 - named) + " more");
  // Which these are.
  EXPECT_EQ(placed.names.size(), 24U);
  ASSERT_EQ(placed.unnamed.size(), 24 - named);
  for (size_t i = 0; i < placed.unnamed.size(); ++i)
    EXPECT_EQ(placed.unnamed[i], "a run with quite a long name that fills a line, number " + std::to_string(named + i));
  EXPECT_GT(placed.panels[0].box.height(), 80);
}

// Of more rows than a panel has lines some have a name, and the others are told.
TEST(PlotPictures, RowsWithoutANameAreTold) {
  Picture picture;
  picture.title = "Memory";
  picture.panels = {Panel()};
  for (int i = 0; i < 100; ++i) {
    picture.panels[0].rows.push_back("run-" + std::to_string(i));
    picture.panels[0].blocks.push_back({picture.panels[0].rows.back(), "bytes", 0, 1e6, i - 0.3, i + 0.3, {0, 114, 178}, ""});
  }
  const PlacedPicture placed = place_picture(std::move(picture), {400, 300});
  EXPECT_EQ(placed.names.size(), 100U);
  const std::string svg = svg_of(placed, false);
  size_t named = 0;
  for (const std::string& name : placed.names) {
    const bool is_drawn = svg.find(">" + name + "</text>") != std::string::npos;
    named += is_drawn ? 1 : 0;
    EXPECT_NE(std::find(placed.unnamed.begin(), placed.unnamed.end(), name) != placed.unnamed.end(), is_drawn) << name;
  }
  EXPECT_GT(named, 10U);
  EXPECT_LT(named, 60U);
}

TEST(PlotPictures, TextIsEscaped) { EXPECT_EQ(xml_text("a<b>&\"'\x01z"), "a&lt;b&gt;&amp;&quot;&#39;\uFFFDz"); }

}  // namespace
}  // namespace zerostep
