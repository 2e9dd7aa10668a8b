#pragma once
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "experiments/report/plot.h"
#include "tests/experiments/support/made_runs.h"

namespace zerostep::testing {

// Made runs of several modes, and what `plot` draws of them.
class PlottedRuns : public ::testing::Test {
 protected:
  // A run of 200 steps whose loss falls from `level` + 2, evaluated every 50.
  void make(const std::string& name, const nlohmann::json& step, double level, int seed,
            const std::string& log = "200 steps done in 1 s\n") {
    std::vector<double> losses, evaluations, norms;
    for (int k = 0; k < 200; ++k) {
      losses.push_back(level + 2 * std::exp(-k / 20.0) + 0.01 * seed);
      evaluations.push_back(k % 50 == 49 ? level + 0.5 - 0.001 * k : std::nan(""));
      norms.push_back(1 + losses.back() / 7);
    }
    losses_[name] = losses;
    evaluations_[name] = evaluations;
    norms_[name] = norms;
    made_.make(name,
               {{"step", counted_cells(200)},
                {"mode", std::vector<std::string>(200, step.value("mode", "fo"))},
                {"loss", cells(losses)},
                {"eval_loss", cells(evaluations)},
                {"grad_norm", cells(norms)},
                {"tokens_per_second", std::vector<std::string>(200, "1280")},
                {"step_seconds", std::vector<std::string>(200, "0.125")},
                {"device_peak_bytes", std::vector<std::string>(200, "1000000")},
                {"host_peak_bytes", std::vector<std::string>(200, "0")}},
               {{"step", step}, {"seed", seed}, {"train_batch_size", 4}, {"run", {{"steps", 200}}}}, {{"device_peak_bytes", 1048576}}, log);
  }
  void make_four() {
    make("amber", {{"mode", "fo"}}, 1.7, 1);
    make("birch", {{"mode", "zo"}, {"queries", 2}}, 3.3, 1);
    make("cedar", {{"mode", "zo"}, {"queries", 8}}, 2.2, 1);
    make("dogwood", {{"mode", "alternating"}, {"queries", 2}}, 2.9, 1);
  }
  PlotResult draw_all(const std::vector<std::string>& views, std::vector<std::string> places = {"runs"}) {
    PlotRequest request;
    for (std::string& place : places) place = made_.path(place);
    request.places = places;
    request.views = views;
    request.out = made_.path("out");
    request.command = "zerostep plot";
    request.threads = 2;
    return plot(request);
  }
  // What a picture's data say of a run and a column: x and y.
  std::vector<std::pair<double, double>> data(const std::string& view, const std::string& run, const std::string& what) {
    std::vector<std::pair<double, double>> out;
    for (const std::vector<std::string>& row : rows_of(made_.read("out/" + view + ".tsv")))
      if (row.size() > 4 && row[1] == run && row[2] == what) out.emplace_back(std::stod(row[3]), std::stod(row[4]));
    return out;
  }
  static std::vector<std::pair<double, double>> expected(const std::vector<double>& values) {
    std::vector<std::pair<double, double>> out;
    for (size_t i = 0; i < values.size(); ++i)
      if (!std::isnan(values[i])) out.emplace_back(static_cast<double>(i), values[i]);
    return out;
  }
  MadeRuns made_;
  std::map<std::string, std::vector<double>> losses_, evaluations_, norms_;
};

}  // namespace zerostep::testing
