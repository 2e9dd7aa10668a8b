#include "experiments/plot/data_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <iterator>

namespace zerostep {
namespace {

// What would end a cell is a blank.
std::string cell(std::string text) {
  std::replace_if(
      text.begin(), text.end(), [](unsigned char c) { return c < 32; }, ' ');
  return text;
}

// A color as "#0072b2", with the end of the line.
std::string last_cell(const Color& color) { return fmt::format("\t#{:02x}{:02x}{:02x}\n", color.red, color.green, color.blue); }

}  // namespace

std::string data_of(const PlacedPicture& picture) {
  std::string out = "panel\trun\twhat\tx\ty\tlow\thigh\tcolor\n";
  for (const PlacedPanel& placed : picture.panels) {
    const Panel& panel = placed.panel;
    const std::string title = cell(panel.title.empty() ? picture.head.title : panel.title);
    for (const Curve& curve : panel.curves) {
      const std::string color = last_cell(curve.color);
      const std::string head = fmt::format("{}\t{}\t{}\t", title, cell(curve.run), cell(curve.what));
      for (size_t i = 0; i < curve.x.size(); ++i) {
        fmt::format_to(std::back_inserter(out), "{}{}\t{}\t", head, curve.x[i], curve.y[i]);
        if (curve.low.empty())
          out += "\t";
        else
          fmt::format_to(std::back_inserter(out), "{}\t{}", curve.low[i], curve.high[i]);
        out += color;
      }
    }
    for (const Block& block : panel.blocks) {
      const auto row = static_cast<size_t>(std::lround((block.top + block.bottom) / 2));
      fmt::format_to(std::back_inserter(out), "{}\t{}\t{}\t{}\t{}\t{}\t{}", title, cell(block.run), cell(block.what), block.left,
                     block.right, row < panel.rows.size() ? cell(panel.rows[row]) : "", last_cell(block.color));
    }
  }
  return out;
}

}  // namespace zerostep
