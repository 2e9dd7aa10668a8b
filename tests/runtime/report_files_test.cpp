#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "base/error.h"
#include "runtime/report/csv_monitor.h"
#include "runtime/report/metrics.h"
#include "runtime/report/run_log.h"
#include "tests/support/message_of.h"
#include "tests/support/scratch_folder.h"

namespace zerostep {
namespace {

namespace fs = std::filesystem;

class ReportFiles : public ::testing::Test {
 protected:
  std::string path(const std::string& name) const { return (folder_ / name).string(); }
  static std::string content(const std::string& path) {
    std::stringstream out;
    out << std::ifstream(path).rdbuf();
    return out.str();
  }
  ScratchFolder scratch_;
  const fs::path& folder_ = scratch_.folder();
};

TEST_F(ReportFiles, MetricsHaveTheirColumnsInOrder) {
  EXPECT_EQ(
      metrics_header(),
      "timestamp,epoch,step,mode,scope,q,lr,batch_size,optimizer,bp_interval,loss,grad_norm,eval_loss,cosine,unchanged_share,loss_kind,"
      "eval_accuracy,tokens_per_second,step_seconds,loss_scale,skipped,device_peak_bytes,host_peak_bytes,file_peak_bytes,elements_gathered,"
      "elements_reduced,bp_loss,clip_scale,resident_bytes,gpu_busy,gpu_bytes");
}

TEST_F(ReportFiles, MetricsRowsAreOnDiskAtOnceAndEmptyWhereThereIsNoValue) {
  MetricsFile file(path("metrics.csv"));
  MetricsRow row;
  row.timestamp = "2026-01-02T03:04:05.006Z";
  row.epoch = 1;
  row.step = 7;
  row.mode = "fo";
  row.scope = "full";
  row.lr = 1e-3;
  row.batch_size = 8;
  row.optimizer = "AdamW";
  row.loss = 1.0 / 3;
  row.grad_norm = 0.25;
  row.loss_kind = "unperturbed";
  row.tokens_per_second = 1000;
  row.step_seconds = 0.5;
  row.device_peak_bytes = 12345678901;
  row.elements_reduced = 4;
  row.resident_bytes = 2345678;
  file.append(row);
  const std::string text = content(path("metrics.csv"));
  EXPECT_EQ(text, metrics_header() +
                      "\n2026-01-02T03:04:05.006Z,1,7,fo,full,,0.001,8,AdamW,,0.3333333333333333,0.25,,,,unperturbed,,1000,0.5,1,0,"
                      "12345678901,0,0,0,4,,,2345678,,\n");
}

TEST_F(ReportFiles, MetricsQuoteWhatWouldBreakARow) {
  MetricsRow row;
  row.scope = "a,\"b\"";
  EXPECT_NE(metrics_line(row).find(",\"a,\"\"b\"\"\","), std::string::npos);
}

TEST_F(ReportFiles, AFullDiskNamesPathAndSpace) {
  fs::create_symlink("/dev/full", path("metrics.csv"));
  const std::string text = testing::message_of<RunError>([&] { MetricsFile file(path("metrics.csv")); });
  EXPECT_NE(text.find(path("metrics.csv")), std::string::npos) << text;
  EXPECT_NE(text.find("space"), std::string::npos) << text;
}

TEST_F(ReportFiles, AFileSizeLimitIsAnErrorAndLeavesNoHalfFile) {
  std::signal(SIGXFSZ, SIG_IGN);
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  rlimit small = before;
  small.rlim_cur = 1000;
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
  const std::string text = testing::message_of<RunError>([&] { write_file(path("plan.json"), std::string(5000, 'x')); });
  setrlimit(RLIMIT_FSIZE, &before);
  EXPECT_NE(text.find("space"), std::string::npos) << text;
  EXPECT_TRUE(fs::is_empty(folder_));
}

TEST_F(ReportFiles, WriteFileReplacesAWholeFile) {
  write_file(path("a.json"), "old and long");
  write_file(path("a.json"), "new");
  EXPECT_EQ(content(path("a.json")), "new");
  EXPECT_EQ(std::distance(fs::directory_iterator(folder_), fs::directory_iterator()), 1);
}

TEST_F(ReportFiles, CsvMonitorIsDeepSpeeds) {
  {
    CsvMonitor monitor(path("out/job"));
    monitor.write("Train/Samples/train_loss", 8, 5.5);
    monitor.write("Train/Samples/train_loss", 16, 0.1);
    monitor.write("Train/Samples/lr", 8, 1e-3);
  }
  {
    CsvMonitor goes_on(path("out/job"), 8);
    goes_on.write("Train/Samples/train_loss", 16, 0.05);
  }
  EXPECT_EQ(content(path("out/job/Train_Samples_train_loss.csv")), "step,train_loss\n8,5.5\n16,0.05\n");
  EXPECT_EQ(content(path("out/job/Train_Samples_lr.csv")), "step,lr\n8,0.001\n");
  CsvMonitor anew(path("out/job"));
  anew.write("Train/Samples/train_loss", 8, 6);
  EXPECT_EQ(content(path("out/job/Train_Samples_train_loss.csv")), "step,train_loss\n8,6\n");
  EXPECT_FALSE(fs::exists(path("out/job/Train_Samples_lr.csv")));
  EXPECT_THROW(CsvMonitor("/proc/nowhere"), RunError);
  CsvMonitor off;
  off.write("Train/Samples/lr", 1, 1);
}

class Lines : public ReportFiles {
 protected:
  std::string shown(RunLog::Terminal terminal, const std::function<void(RunLog&)>& body) const {
    std::FILE* out = std::fopen(path("out").c_str(), "w");
    {
      RunLog log(out, terminal);
      body(log);
    }
    std::fclose(out);
    return content(path("out"));
  }
};

TEST_F(Lines, APipeGetsPlainLinesAndNoStatus) {
  const std::string text = shown({false, 0}, [&](RunLog& log) {
    log.line("before");
    log.open(path("log.txt"));
    log.status("half way");
    log.line("after");
    log.note("only in the file");
  });
  EXPECT_EQ(text, "before\nafter\n");
  EXPECT_EQ(content(path("log.txt")), "before\nafter\nonly in the file\n");
}

TEST_F(Lines, ATerminalRedrawsOneLineThatNeverWraps) {
  const std::string text = shown({true, 10}, [&](RunLog& log) {
    log.open(path("log.txt"));
    log.status("0123456789abc");
    log.status("\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4");  // two bytes a character
    log.line("done");
  });
  EXPECT_EQ(text, "\r\033[2K012345678\r\033[2K\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\r\033[2Kdone\n");
  EXPECT_EQ(content(path("log.txt")), "done\n");
}

TEST_F(Lines, ASilentRankSaysNothing) {
  RunLog log;
  log.line("x");
  log.warn("x");
  log.status("x");
  log.note("x");
}

}  // namespace
}  // namespace zerostep
