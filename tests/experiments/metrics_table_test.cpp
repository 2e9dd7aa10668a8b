#include "experiments/records/metrics_table.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>

#include "base/error.h"
#include "experiments/records/last_row.h"
#include "runtime/report/metrics.h"
#include "tests/support/expect_says.h"
#include "tests/support/message_of.h"
#include "tests/support/scratch_folder.h"

namespace zerostep {
namespace {

class MetricsTables : public ::testing::Test {
 protected:
  std::string file(const std::string& text) {
    std::ofstream(path_) << text;
    return path_;
  }
  ScratchFolder folder_;
  const std::string path_ = folder_.path("metrics.csv");
};

TEST_F(MetricsTables, GivesBackWhatARunWrites) {
  MetricsFile written(path_);
  for (int step = 0; step < 3; ++step) {
    MetricsRow row;
    row.timestamp = "2026-01-31T23:59:59.125Z";
    row.step = step;
    row.mode = "zo";
    row.optimizer = "a,\"b\"";
    row.loss = 1.0 / (step + 3);
    if (step == 1) row.eval_loss = 0.125;
    row.device_peak_bytes = (int64_t{1} << 40) + step;
    written.append(row);
  }
  const MetricsTable table = MetricsTable::read(path_);
  ASSERT_EQ(table.num_rows(), 3);
  EXPECT_EQ(fmt::format("{}", fmt::join(table.columns(), ",")), metrics_header());
  for (int step = 0; step < 3; ++step) {
    EXPECT_EQ(table.column("step")[static_cast<size_t>(step)], step);
    EXPECT_EQ(table.column("loss")[static_cast<size_t>(step)], 1.0 / (step + 3));
    EXPECT_EQ(table.column("device_peak_bytes")[static_cast<size_t>(step)], static_cast<double>((int64_t{1} << 40) + step));
  }
  EXPECT_TRUE(std::isnan(table.column("eval_loss")[0]));
  EXPECT_EQ(table.column("eval_loss")[1], 0.125);
  EXPECT_EQ(table.first("optimizer"), "a,\"b\"");
  EXPECT_EQ(table.last("mode"), "zo");
  EXPECT_TRUE(table.notes().empty());
}

TEST_F(MetricsTables, ReadsTheNamedColumnsAlone) {
  constexpr std::string_view kWanted[] = {"loss", "nowhere"};
  const MetricsTable table = MetricsTable::read(file("step,loss,lr\n0,2.5,0.1\n1,1.5,0.1\n"), kWanted);
  EXPECT_TRUE(table.has("loss"));
  EXPECT_FALSE(table.has("lr"));
  EXPECT_FALSE(table.has("nowhere"));
  EXPECT_TRUE(table.column("lr").empty());
  EXPECT_EQ(table.column("loss")[1], 1.5);
}

TEST_F(MetricsTables, LeavesOutCutRowsAndSaysSo) {
  const MetricsTable cut = MetricsTable::read(file("step,loss,lr\n0,2.5,0.1\n1,1.5,0."));
  EXPECT_EQ(cut.num_rows(), 1);
  ASSERT_EQ(cut.notes().size(), 1u);
  EXPECT_TRUE(cut.notes()[0].ends_with("line 3, the last, is cut: left out")) << cut.notes()[0];
  const MetricsTable odd = MetricsTable::read(file("step,loss,lr\n0,2.5\n1,1.5,0.1\n\n2,1,2,3\n"));
  EXPECT_EQ(odd.num_rows(), 1);
  ASSERT_EQ(odd.notes().size(), 1u);
  EXPECT_TRUE(odd.notes()[0].ends_with("line 2 and 1 more have not the 3 cells of the header: left out")) << odd.notes()[0];
}

TEST_F(MetricsTables, TakesTheFirstOfColumnsOfOneNameAndSaysSo) {
  const std::string path = file("step,loss,loss,bs,batch_size\n0,1,9,4,8\n1,2,8,4,8\n");
  const MetricsTable table = MetricsTable::read(path);
  EXPECT_EQ(std::vector(table.column("loss").begin(), table.column("loss").end()), (std::vector<double>{1, 2}));
  EXPECT_EQ(std::vector(table.column("batch_size").begin(), table.column("batch_size").end()), (std::vector<double>{4, 4}));
  EXPECT_EQ(table.last("loss"), "2");
  EXPECT_EQ(table.notes(), (std::vector<std::string>{path + ": has more than one column `loss`: the first is read",
                                                     path + ": has more than one column `batch_size`: the first is read"}));
  EXPECT_EQ(last_row(path).at("loss"), "2");
}

TEST_F(MetricsTables, ReadsFilesOfTheEarlierWork) {
  const MetricsTable table = MetricsTable::read(
      file("\xEF\xBB\xBFtimestamp,epoch,step,mode,q,lr,bs,loss,grad_norm,acc\r\n2025-11-06 12:00:00,1,1,FO,N/A,0.001,2,5.5,1.5,0.25\r\n"));
  ASSERT_EQ(table.num_rows(), 1);
  EXPECT_EQ(table.column("batch_size")[0], 2);
  EXPECT_TRUE(std::isnan(table.column("q")[0]));
  EXPECT_EQ(table.column("acc")[0], 0.25);
  EXPECT_EQ(table.first("timestamp"), "2025-11-06 12:00:00");
}

TEST_F(MetricsTables, RefusesWhatHasNoLoss) {
  for (const char* text : {"a,b\n1,2\n", "", "\n"})
    EXPECT_SAYS(testing::message_of<InputError>([&] { MetricsTable::read(file(text)); }), "has no column `loss`");
  EXPECT_SAYS(testing::message_of<InputError>([&] { MetricsTable::read(file("run,state,loss\na,done,1\n")); }), "is a table of runs");
  EXPECT_THROW(MetricsTable::read(folder_.path("nowhere.csv")), InputError);
  EXPECT_THROW(MetricsTable::read(folder_.folder()), InputError);
}

TEST_F(MetricsTables, TellWhetherALossHasDiverged) {
  const auto has = [&](const std::string& losses) { return has_diverged(MetricsTable::read(file("step,loss\n" + losses)), "loss"); };
  EXPECT_FALSE(has("0,3\n1,2\n"));
  EXPECT_FALSE(has("0,3\n1,\n"));
  EXPECT_FALSE(has("0,nan\n1,inf\n2,1e-322\n"));  // it has come back
  EXPECT_FALSE(has("0,3.4e38\n"));
  for (const char* last : {"inf", "-inf", "nan", "-nan", "NaN", "3.5e38", "-1.7e308"})
    EXPECT_TRUE(has(fmt::format("0,3\n1,{}\n", last))) << last;
  EXPECT_FALSE(has(""));
}

// Of steps with both numbers: 2 s at 100 tokens a second and 1 s at 40.
TEST(MetricsValues, SpeedIsTokensOverSeconds) {
  const double nan = std::nan("");
  const MeanSpeed speed = mean_speed(std::vector<double>{2, nan, 1, 9}, std::vector<double>{100, 7, 40, nan});
  EXPECT_EQ(speed.step_seconds, 1.5);
  EXPECT_EQ(speed.tokens_per_second, 80);
  EXPECT_TRUE(std::isnan(mean_speed({}, {}).step_seconds));
  EXPECT_TRUE(std::isnan(mean_speed(std::vector<double>{0}, std::vector<double>{5}).tokens_per_second));
}

TEST(MetricsValues, AreOfTheNumbersAlone) {
  const double nan = std::nan("");
  std::vector<double> values;
  for (int i = 0; i < 60; ++i) values.push_back(i);
  values.insert(values.begin() + 58, nan);
  values.push_back(nan);
  EXPECT_EQ(final_mean(values), (57 + 58 + 59) / 3.0);
  EXPECT_EQ(lowest(values), 0);
  EXPECT_EQ(highest(values), 59);
  EXPECT_EQ(last_value(values), 59);
  EXPECT_EQ(final_mean(std::vector<double>{3, 5}), 5);
  for (const std::vector<double>& none : {std::vector<double>{}, std::vector<double>{nan}})
    for (double value : {final_mean(none), lowest(none), highest(none), last_value(none)}) EXPECT_TRUE(std::isnan(value));
}

// As `date -u -d 2026-01-31T23:59:59.125Z +%s.%N` gives it.
TEST(MetricsValues, TimestampsAreSeconds) {
  EXPECT_EQ(seconds_of_timestamp("2026-01-31T23:59:59.125Z"), 1769903999.125);
  EXPECT_EQ(seconds_of_timestamp("2026-01-31 23:59:59"), 1769903999);
  EXPECT_TRUE(std::isnan(seconds_of_timestamp("yesterday")));
  EXPECT_TRUE(std::isnan(seconds_of_timestamp("")));
}

}  // namespace
}  // namespace zerostep
