#include <fmt/format.h>

#include <set>

#include "tests/experiments/support/picture_text.h"
#include "tests/experiments/support/plotted_runs.h"
#include "tests/support/expect_says.h"

namespace zerostep {
namespace {

using testing::attribute_of;
using testing::numbers_of;
using testing::wrong_with_xml;

class PlotReport : public testing::PlottedRuns {};

TEST_F(PlotReport, TheReportIsOneFileThatNamesEveryRun) {
  make_four();
  make("<b>&\"odd\"", {{"mode", "fo"}}, 4, 1);
  draw_all({});
  const std::string page = made_.read("out/report.html");
  for (const char* text :
       {"amber", "birch", "cedar", "dogwood", "&lt;b&gt;&amp;&quot;odd&quot;", "<h2>Runs</h2>", "<h2>Keys that differ</h2>",
        "<h2>Time to a common loss</h2>", "<h2>Memory against plan</h2>", "<h2>Best 5</h2>", "<svg"})
    EXPECT_SAYS(page, text);
  EXPECT_EQ(page.find("<b>&\"odd"), std::string::npos);
  // Nothing is loaded: no addresses but the name space of SVG, no sources, no style sheets.
  for (const char* text : {"src=", "href=", "url(", "@import", "<link", "<iframe"}) EXPECT_EQ(page.find(text), std::string::npos) << text;
  for (size_t at = page.find("//"); at != std::string::npos; at = page.find("//", at + 2))
    EXPECT_EQ(page.substr(at, 16), "//www.w3.org/200") << page.substr(at, 60);
  // What is drawn in the page is well-formed too.
  for (size_t at = page.find("<svg xmlns"); at != std::string::npos; at = page.find("<svg xmlns", at + 1)) {
    const size_t end = page.find("</svg>\n</div>", at);
    ASSERT_NE(end, std::string::npos);
    EXPECT_EQ(wrong_with_xml(page.substr(at, end + 6 - at)), "");
  }
}

// Where steps of one run cost another thing than those of another.
TEST_F(PlotReport, TheReportComparesModesOverSecondsAndForwardsToo) {
  make_four();
  made_.write("old.csv", "step,mode,q,loss\n1,ZO,4,5\n2,ZO,4,4\n");
  const PlotResult result = draw_all({}, {"runs", "old.csv"});
  const std::set<std::string> files(result.files.begin(), result.files.end());
  // Steps of an eighth of a second; 3 forwards of backprop, 2 a query.
  const auto over = [&](const std::string& name, double factor, double first = 0) {
    std::vector<std::pair<double, double>> out;
    for (size_t i = 0; i < losses_[name].size(); ++i) out.emplace_back((static_cast<double>(i) + 1) * factor + first, losses_[name][i]);
    return out;
  };
  for (const auto& [name, forwards] : std::map<std::string, double>{{"amber", 3}, {"birch", 4}, {"cedar", 16}}) {
    EXPECT_EQ(data("loss-seconds", name, "loss"), over(name, 0.125));
    EXPECT_EQ(data("loss-forwards", name, "loss"), over(name, forwards));
  }
  EXPECT_EQ(data("compare-forwards", "fo", "loss"), over("amber", 3));
  EXPECT_EQ(data("compare-seconds", "zo, queries 8", "loss"), over("cedar", 0.125));
  EXPECT_EQ(data("loss-forwards", "old", "loss"), (std::vector<std::pair<double, double>>{{8, 5}, {16, 4}}));
  EXPECT_TRUE(data("loss-seconds", "old", "loss").empty());
  ASSERT_EQ(result.notes.size(), 1U);
  EXPECT_EQ(result.notes[0], "the pictures over seconds are without the curves of old, whose steps do not tell them");
  const std::string page = made_.read("out/report.html");
  size_t last = 0;
  for (const char* figure : {"loss", "loss-seconds", "loss-forwards", "overview", "compare", "compare-seconds", "compare-forwards"}) {
    const size_t at = page.find("<figure id=\"" + std::string(figure) + "\">");
    ASSERT_NE(at, std::string::npos) << figure;
    EXPECT_GT(at, last);
    last = at;
    EXPECT_EQ(files.count(std::string(figure) + ".svg"), 1U) << figure;
  }
  for (const char* title : {"Loss over steps", "Loss over seconds", "Loss over forward passes", "Comparison over steps",
                            "Comparison over seconds", "Comparison over forward passes"})
    EXPECT_SAYS(page, "<title>" + std::string(title) + "</title>");
  // What no x is of is drawn once.
  EXPECT_EQ(made_.read("out/compare-seconds.svg").find("Speed"), std::string::npos);
  // Not where somebody asks for a view or an axis, and not of runs whose steps cost the same.
  EXPECT_EQ(draw_all({"loss", "compare"}).files.size(), 7U);
  PlotRequest request;
  request.places = {made_.path("runs")};
  request.x = "step";
  request.out = made_.path("out");
  for (const std::string& file : plot(request).files) EXPECT_EQ(file.find('-'), std::string::npos) << file;
  for (const char* name : {"amber", "cedar", "dogwood"}) std::filesystem::remove_all(made_.path("runs/" + std::string(name)));
  make("elm", {{"mode", "zo"}, {"queries", 2}}, 3, 2);
  for (const std::string& file : draw_all({}).files) EXPECT_EQ(file.find('-'), std::string::npos) << file;
}

TEST_F(PlotReport, OfManyRunsTheMeansAreComparedOverSecondsAndForwards) {
  for (int seed = 0; seed < 13; ++seed)
    for (const std::string mode : {"fo", "zo"})
      if (seed > 0 || mode == "fo")
        made_.make(mode + std::to_string(seed), {{"step", {"0"}}, {"loss", {"1"}}, {"step_seconds", {"1"}}},
                   {{"step", {{"mode", mode}}}, {"seed", seed}});
  const auto files = [&] {
    const PlotResult result = draw_all({});
    return std::set<std::string>(result.files.begin(), result.files.end());
  };
  EXPECT_EQ(files().count("compare-seconds.svg"), 1U);
  EXPECT_EQ(files().count("loss-seconds.svg"), 0U);  // of 25 runs
  std::filesystem::remove_all(made_.path("runs/fo0"));
  EXPECT_EQ(files().count("loss-seconds.svg"), 1U);
}

// What a pointer over a picture shows is made of its lines' points and its panel's box and scales, what a table is sorted by is in its
// cells.
TEST_F(PlotReport, TheReportHoldsTheValuesThatItShowsAndSortsBy) {
  make_four();
  const PlotResult result = draw_all({});
  const std::string page = made_.read("out/report.html");
  size_t pictures = 0;
  for (size_t figure = page.find("<figure id="); figure != std::string::npos; figure = page.find("<figure id=", figure + 1))
    for (const char* form : {"<div class=\"wide\">", "<div class=\"narrow\">"}) {
      const size_t begin = page.find(form, figure), end = page.find("</svg>\n</div>", begin);
      const std::string picture = page.substr(begin, end - begin);
      ++pictures;
      for (const char* mark : {"class=\"panel\" data-box=", " data-x=", " data-y=", " data-xname=", " data-name="})
        EXPECT_SAYS(picture, mark);
      if (attribute_of(page, figure, "id") != "loss") continue;
      const size_t panel = picture.find("class=\"panel\"");
      const std::vector<double> box = numbers_of(attribute_of(picture, panel, "data-box"));
      const std::vector<double> x = numbers_of(attribute_of(picture, panel, "data-x")),
                                y = numbers_of(attribute_of(picture, panel, "data-y"));
      EXPECT_SAYS(attribute_of(picture, panel, "data-y"), ",linear,");
      for (const auto& [name, losses] : losses_) {
        const size_t line = picture.find(" data-name=\"" + name + "\"");
        ASSERT_NE(line, std::string::npos) << name;
        const std::vector<double> points = numbers_of(attribute_of(picture, line, "points"));
        ASSERT_EQ(points.size(), 2 * losses.size()) << "a step is wider than a pixel";
        for (size_t i = 0; i < losses.size(); ++i) {
          // As the page's script has it. Points and boxes have two decimals.
          EXPECT_NEAR(x[0] + (x[1] - x[0]) * (points[2 * i] - box[0]) / box[2], static_cast<double>(i), 0.0151 * (x[1] - x[0]) / box[2]);
          EXPECT_NEAR(y[0] + (y[1] - y[0]) * (box[1] + box[3] - points[2 * i + 1]) / box[3], losses[i], 0.0201 * (y[1] - y[0]) / box[3]);
        }
      }
    }
  EXPECT_EQ(pictures, 2 * 10U);
  // Cells have the whole number; what is a text is sorted by it.
  size_t tables = 0;
  for (const char* head : {"<h2>Runs</h2>", "<h2>Time to a common loss</h2>", "<h2>Memory against plan</h2>"}) {
    const size_t at = page.find(head);
    ASSERT_NE(at, std::string::npos) << head;
    const size_t table = page.find("<table", at), end = page.find("</table>", at);
    EXPECT_EQ(page.substr(table, 24), "<table class=\"sortable\">") << head;
    for (size_t cell = page.find("<td", table); cell < end; cell = page.find("<td", cell + 1)) {
      const std::string tag = page.substr(cell, page.find('>', cell) - cell);
      EXPECT_NE(tag.find(" data-v=\"") != std::string::npos, tag.find(" class=\"text\"") != std::string::npos) << tag;
    }
    ++tables;
  }
  EXPECT_EQ(tables, 3U);
  for (const RunSummary& run : result.summary.runs) {
    const size_t row = page.find("<tr><td class=\"text\">" + run.name + "</td>", page.find("<h2>Runs</h2>"));
    ASSERT_NE(row, std::string::npos);
    const std::string cells_of_row = page.substr(row, page.find("</tr>", row) - row);
    double sum = 0;  // from behind, so that it is rounded alike
    for (size_t i = 200; i-- > 190;) sum += losses_[run.name][i];
    for (const double value : {200.0, sum / 10, evaluations_[run.name][199], 25.0, 1280.0, 1e6})
      EXPECT_SAYS(cells_of_row, fmt::format("<td data-v=\"{}\">", value));
  }
}

// What the sweeps' files say, in the order in which they say it.
TEST_F(PlotReport, SaysWhatItsSweepsWereAsked) {
  make_four();
  draw_all({"loss"});
  EXPECT_EQ(made_.read("out/report.html").find("What was asked"), std::string::npos);
  made_.write("runs/sweep.json", R"({"name": "first <one>", "asks": "is a < b?", "output_dir": "runs",
    "base": {"seed": 1, "model": {"n_layer": 2}, "data": {"train": ["text/a.txt", "text/b.txt"]}},
    "grid": {"step.mode": ["fo", "zo"], "train_batch_size": [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14]},
    "when": [{"if": {"step.mode": "zo"}, "grid": {"step.queries": [2, 8]}}, {"if": {"step.mode": "fo"}, "grid": {"seed": [3]}}],
    "runs": [{"step.mode": "alternating", "step.queries": 2}], "repeat": {"seed": [1, 2]},
    "search": {"kind": "halving", "metric": "eval_loss", "rungs": [100, 200], "keep": 0.25}})");
  draw_all({"loss"});
  EXPECT_SAYS(made_.read("out/report.html"),
              "<h2>What was asked: first &lt;one&gt;</h2>\n<p>Is a &lt; b?</p>\n<dl>\n"
              "<dt>grid</dt><dd>step.mode fo, zo; train_batch_size 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12 and 2 more</dd>\n"
              "<dt>when</dt><dd>step.mode zo: step.queries 2, 8</dd>\n<dd>step.mode fo: seed 3</dd>\n"
              "<dt>runs</dt><dd>step.mode alternating, step.queries 2</dd>\n<dt>repeat</dt><dd>seed 1, 2</dd>\n"
              "<dt>search</dt><dd>the best 0.25 by eval_loss go on, at 100, 200 steps</dd>\n"
              "<dt>base</dt><dd>data.train a+b, model.n_layer 2, seed 1</dd>\n</dl>\n");
  // One that cannot be read, and one whose parts are others than those of a sweep.
  made_.write("runs/sweep.json", "{ half");
  draw_all({"loss"});
  EXPECT_EQ(made_.read("out/report.html").find("What was asked"), std::string::npos);
  EXPECT_SAYS(made_.read("out/report.html"), "what a sweep was asked is not known: ");
  EXPECT_SAYS(made_.read("out/report.html"), "runs/sweep.json is damaged: a JSON object is expected");
  made_.write("runs/sweep.json", R"({"name": 1, "grid": 3, "when": {}, "runs": [1], "repeat": null, "search": [], "base": "x.json"})");
  draw_all({"loss"});
  EXPECT_SAYS(made_.read("out/report.html"), "<h2>What was asked</h2>\n<dl>\n</dl>\n");
}

}  // namespace
}  // namespace zerostep
