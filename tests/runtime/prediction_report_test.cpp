#include "runtime/report/prediction_report.h"

#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "base/trace.h"
#include "runtime/report/plan_report.h"
#include "tests/runtime/support/planned.h"
#include "tests/support/scratch_folder.h"

namespace zerostep::testing {
namespace {

using Mode = StepConfig::Mode;

TEST(PredictionReport, SaysTimeBoundAndLanes) {
  const Planned p(Mode::FirstOrder, 2, [](ZerothOrderCase& c) { at_stage(c, 3); });
  const Prediction prediction = p.on(small_machine());
  const PlanCost cost;
  const PlanReport without{p.test.config, *p.plan, cost, {1, "the test"}};
  EXPECT_EQ(plan_text(without).find("Time of a step"), std::string::npos);
  for (const char* key : {"step_seconds", "tokens_per_second", "bound_by", "lane_seconds"}) EXPECT_FALSE(plan_json(without).contains(key));

  const PlanReport report{p.test.config, *p.plan, cost, {1, "the test"}, &prediction};
  const auto json = plan_json(report);
  EXPECT_EQ(json["step_seconds"].get<double>(), prediction.step_seconds);
  EXPECT_EQ(json["tokens_per_second"].get<double>(), prediction.tokens_per_second);
  EXPECT_EQ(json["bound_by"].get<std::string>(), name_of(prediction.bound_by));
  EXPECT_EQ(json["lane_seconds"]["gather"].get<double>(), nth(prediction.lane_seconds, Lane::Gather));
  EXPECT_FALSE(json["lane_seconds"].contains("read"));
  EXPECT_EQ(json["steps"][0]["step_seconds"].get<double>(), prediction.step_seconds);
  const std::string text = plan_text(report);
  EXPECT_EQ(text.find("zerostep bench machine"), std::string::npos);
  EXPECT_FALSE(json["machine_is_unsteady"].get<bool>());
  Machine busy = small_machine();
  busy.is_unsteady = true;
  const Prediction unsteady = p.on(busy);
  const PlanReport doubtful{p.test.config, *p.plan, cost, {1, "the test"}, &unsteady};
  EXPECT_NE(plan_text(doubtful).find("predicted for small, measured on a busy machine: run `zerostep bench machine` again\n"),
            std::string::npos)
      << plan_text(doubtful);
  EXPECT_TRUE(plan_json(doubtful)["machine_is_unsteady"].get<bool>());
  EXPECT_NE(text.find("predicted for small"), std::string::npos) << text;
  // Each used lane is a line of the same width.
  std::vector<std::string> rows;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);)
    if (line.find('|') != std::string::npos) rows.push_back(line);
  ASSERT_EQ(rows.size(), 3u) << text;
  for (const std::string& row : rows) {
    EXPECT_EQ(row.size(), rows.front().size()) << text;
    EXPECT_LE(row.size(), 80u);
  }
  EXPECT_TRUE(rows[0].starts_with("  compute |")) << text;
  for (const char letter : {'B', 'U'}) EXPECT_NE(rows[0].find(letter), std::string::npos) << text;
}

// Rows, names and the ends of a row's last event.
struct TraceContent {
  std::set<std::string> names;
  std::map<std::string, double> ends;
  // In order, none over another of its row.
  void add(const std::string& row, const std::string& name, double begin, double end) {
    EXPECT_GE(begin, ends[row] - 1e-9) << name;
    ends[row] = end;
    names.insert(row + ": " + name);
  }
};

TraceContent simulated_trace(const Planned& p, const Machine& machine) {
  const ScratchFolder traces;
  const std::string file = traces.path("trace.json");
  write_simulated_trace(file, *p.plan, p.on(machine));
  std::ifstream in(file);
  TraceContent out;
  const nlohmann::json written = nlohmann::json::parse(in);
  for (const auto& event : written["traceEvents"]) {
    const double begin = 1e-6 * event["ts"].get<double>();
    out.add(event["tid"], event["name"], begin, begin + 1e-6 * event["dur"].get<double>());
  }
  return out;
}

// Of the steps before the last one, without what waits.
TraceContent measured_trace(ZerothOrderCase test, int ranks, int steps) {
  test.steps = steps;
  TraceContent out;
  EngineSetup setup;
  setup.updates = std::nullopt;
  setup.before_step = [&](int64_t step, Engine& engine) {
    if (step + 1 < steps || engine.rank() != 0) return;
    std::vector<Trace::Interval> all = engine.trace()->intervals();
    std::stable_sort(all.begin(), all.end(), [](const Trace::Interval& a, const Trace::Interval& b) { return a.begin < b.begin; });
    for (const Trace::Interval& at : all)
      if (!at.name.starts_with("wait for")) out.add(at.row, at.name, at.begin, at.end);
  };
  run_zeroth_order_threads(test, ranks, setup);
  return out;
}

// A simulated trace looks like a measured one.
TEST(PredictionReport, TheTraceHasTheRowsAndNamesOfARun) {
  const ScratchFolder folder;
  const Planned p(Mode::FirstOrder, 1, [&](ZerothOrderCase& c) {
    at_stage(c, 3);
    c.config.run.trace = true;
    c.config.number_checkpoints = -1;
    c.config.cpu_checkpointing = true;
    c.config.zero.offload_param.tier = c.config.zero.offload_optimizer.tier = Tier::File;
    c.config.zero.offload_param.nvme_paths = c.config.zero.offload_optimizer.nvme_paths = {folder.folder().string()};
  });
  const TraceContent simulated = simulated_trace(p, small_machine());
  EXPECT_EQ(simulated.ends.size(), 7u);
  EXPECT_TRUE(simulated.names.contains("computation: agree on loss and gradient"));
  EXPECT_EQ(simulated.names, measured_trace(p.test, 1, 3).names);
}

// Whatever the ranks agree on, and where one rank agrees with itself.
TEST(PredictionReport, TheTraceHasTheAgreementsOfARun) {
  std::set<std::string> all;
  for (const Mode mode : {Mode::ZerothOrder, Mode::Calibrate, Mode::Instruct})
    for (const int ranks : {1, 2}) {
      const Planned p(mode, ranks, [](ZerothOrderCase& c) { c.config.run.trace = true; });
      const auto agreements = [](const TraceContent& trace) {
        std::set<std::string> out;
        for (const std::string& name : trace.names)
          if (name.find(": agree on ") != std::string::npos) out.insert(name);
        return out;
      };
      const std::set<std::string> simulated = agreements(simulated_trace(p, small_machine()));
      EXPECT_FALSE(simulated.empty());
      EXPECT_EQ(simulated, agreements(measured_trace(p.test, ranks, 7))) << static_cast<int>(mode) << " on " << ranks;
      all.insert(simulated.begin(), simulated.end());
    }
  EXPECT_EQ(all.size(), 4u);  // each Agreement
}

}  // namespace
}  // namespace zerostep::testing
