#include "tests/runtime/support/machine_file.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "runtime/timing/machine.h"
#include "tests/support/expect_says.h"

namespace zerostep {
namespace {

using nlohmann::ordered_json;
using testing::described, testing::MachineFile;

TEST_F(MachineFile, EveryKeyIsAFigureInUnitsOfOne) {
  const Machine m = read(described());
  EXPECT_EQ(m.name, "a card");
  EXPECT_EQ(m.ranks_per_host, 2);
  EXPECT_EQ(m.threads_per_rank, 3);
  EXPECT_FALSE(m.lanes_share_cores);
  EXPECT_FALSE(m.host_is_device);
  EXPECT_DOUBLE_EQ(m.cores_per_rank, 1.5);
  EXPECT_EQ(m.multiprocessors, 30);
  EXPECT_EQ(m.device_bytes, 24000000001);
  EXPECT_EQ(m.host_bytes, 48000000002);
  EXPECT_EQ(m.file_bytes, 96000000003);
  ASSERT_EQ(m.gemm.size(), 2u);
  EXPECT_EQ(m.gemm[1].type, DType::BF16);
  EXPECT_EQ(m.gemm[1].rows, 64);
  EXPECT_EQ(m.gemm[1].width, 512);
  EXPECT_DOUBLE_EQ(m.gemm[1].flops_per_second, 1.25e12);
  ASSERT_EQ(m.elementwise.size(), 2u);
  EXPECT_DOUBLE_EQ(m.elementwise[0].bytes_per_second, 10e9);
  EXPECT_DOUBLE_EQ(attention_rate(m, DType::F32, false).flops_per_second, 0.75e12);
  EXPECT_DOUBLE_EQ(attention_rate(m, DType::F32, false).head_seconds, 2e-6);
  EXPECT_DOUBLE_EQ(attention_rate(m, DType::F32, true).flops_per_second, 0.5e12);
  EXPECT_DOUBLE_EQ(attention_rate(m, DType::F32, true).head_seconds, 7e-6);
  EXPECT_EQ(attention_rate(m, DType::BF16, false).flops_per_second, 0) << "not said";
  EXPECT_DOUBLE_EQ(m.operation_seconds, 4e-6);
  EXPECT_DOUBLE_EQ(m.memory_bytes_per_second, 12e9);
  EXPECT_DOUBLE_EQ(m.noise_elements_per_second, 14e9);
  EXPECT_DOUBLE_EQ(m.noise_16bit_elements_per_second, 13e9);
  EXPECT_DOUBLE_EQ(m.update_bytes_per_second, 15e9);
  EXPECT_DOUBLE_EQ(m.host_update_bytes_per_second, 16e9);
  double latency = 1e-6, speed = 21e9;
  for (const Link* link : {&m.host_to_device, &m.device_to_host, &m.file_read, &m.file_write, &m.gather_in_host, &m.reduce_in_host,
                           &m.gather_across_hosts, &m.reduce_across_hosts}) {
    EXPECT_DOUBLE_EQ(link->latency_seconds, latency);
    EXPECT_DOUBLE_EQ(link->bytes_per_second, speed);
    latency += 1e-6;
    speed += 1e9;
  }
  EXPECT_DOUBLE_EQ(m.agreement_seconds, 9e-6);
  EXPECT_DOUBLE_EQ(m.file_read.seconds(46e9), 3e-6 + 2);
}

TEST_F(MachineFile, WhatIsWrittenReadsBack) {
  write_machine(file_, read(described()));
  EXPECT_EQ(ordered_json::parse(text()), described());
  ordered_json measured = described();
  measured["measured_seconds"] = 25;
  measured["unsteady"] = true;
  const Machine unsteady = read(measured);
  EXPECT_EQ(unsteady.measured_seconds, 25);
  EXPECT_TRUE(unsteady.is_unsteady);
  EXPECT_FALSE(read(described()).is_unsteady);
  write_machine(file_, unsteady);
  EXPECT_EQ(nlohmann::json::parse(text()), nlohmann::json::parse(measured.dump()));
  write_machine(file_, read(described()));
  EXPECT_SAYS(text(), "\n    {\"type\": \"bf16\", \"rows\": 64, \"width\": 512, \"tflops\": 1.25}\n");

  Machine processor = read(described());  // what a processor alone has
  processor.ranks_per_host = 1;
  processor.host_is_device = processor.lanes_share_cores = true;
  processor.file_bytes = processor.multiprocessors = 0;
  processor.agreement_seconds = 0;
  processor.operation_seconds = 1.23456789e-6;
  processor.host_to_device = processor.device_to_host = processor.file_read = processor.file_write = processor.gather_in_host =
      processor.reduce_in_host = processor.gather_across_hosts = processor.reduce_across_hosts = {};
  write_machine(file_, processor);
  const std::string first = text();
  const Machine again = read_machine(file_);
  EXPECT_EQ(again.file_bytes, 0);
  EXPECT_FALSE(again.file_read.is_known());
  EXPECT_DOUBLE_EQ(again.operation_seconds, 1.2346e-6);
  write_machine(file_, again);
  EXPECT_EQ(text(), first);
  EXPECT_EQ(ordered_json::parse(first).count("links"), 0u);
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(scratch_.folder()), {}), 1) << "something lies beside the file";
}

TEST_F(MachineFile, CommentsAndTrailingCommasArePermitted) {
  std::string text = "// a machine\n" + described().dump(1);
  text.insert(text.rfind('}'), ",");
  EXPECT_EQ(read_text(text).name, "a card");
}

TEST_F(MachineFile, EveryErrorNamesFileAndEntry) {
  const auto changed = [](const std::string& pointer, const ordered_json& value) {
    ordered_json j = described();
    j[ordered_json::json_pointer(pointer)] = value;
    return j;
  };
  struct Case {
    ordered_json file;
    std::string says;
  };
  std::vector<Case> cases{
      {changed("/gem", 1), "gem is no key of a machine; the nearest is gemm"},
      {changed("/links/file_reed", 1), "links.file_reed is no key of a machine; the nearest is file_read"},
      {changed("/gemm/1/flops", 1), "gemm[1].flops is no key of a machine; the nearest is tflops"},
      {changed("/memory/xyz", 1), "memory.xyz is no key of a machine; known here: device_gb_per_s"},
      {changed("/operation_us", 0), "operation_us is 0: expected a number of microseconds from 0.005 (light's way of 1.5 m) to 1e+07 ("},
      {changed("/links/file_read/latency_us", -3), "links.file_read.latency_us is -3: expected a number of microseconds from"},
      {changed("/links/file_read/gb_per_s", "6"),
       "links.file_read.gb_per_s is \"6\": expected a number of GB a second from 1e-06 (a telephone line) to 1e+06 ("},
      {changed("/gemm/0/tflops", -1), "gemm[0].tflops is -1: expected a number of TFLOP/s from 1e-06 (a processor of 1980) to 1e+06 ("},
      {changed("/gemm/0/rows", 1.5), "gemm[0].rows is 1.5: expected a whole number of elements from 1 (one) to 1e+09 ("},
      {changed("/gemm/0/type", "int8"), "gemm[0].type is \"int8\": expected \"fp32\", \"bf16\" or \"fp16\""},
      {changed("/gemm", 3), "gemm is 3: expected a list"},
      {changed("/memory", 3), "memory is 3: expected an object"},
      {changed("/ranks_per_host", 0), "ranks_per_host is 0: expected a whole number of ranks from 1 (one alone) to 65536 ("},
      {changed("/capacity/host_bytes", 1e30), "capacity.host_bytes is 1e+30: expected a whole number of bytes from 1e+06 ("},
      // Positive, and absurd.
      {changed("/memory/device_gb_per_s", 1e30), "memory.device_gb_per_s is 1e+30: expected a number of GB a second"},
      {changed("/memory/device_gb_per_s", 1e-30), "memory.device_gb_per_s is 1e-30: expected a number of GB a second"},
      {changed("/elementwise/0/gb_per_s", 1.1e6), "elementwise[0].gb_per_s is 1100000.0: expected"},
      {changed("/elementwise/0/attention_tflops", 1e300), "elementwise[0].attention_tflops is 1e+300: expected"},
      {changed("/gemm/0/tflops", 1e300), "gemm[0].tflops is 1e+300: expected"},
      {changed("/noise_gelements_per_s", 1e30), "noise_gelements_per_s is 1e+30: expected"},
      {changed("/update/host_gb_per_s", 1e30), "update.host_gb_per_s is 1e+30: expected"},
      {changed("/operation_us", 1e-30), "operation_us is 1e-30: expected"},
      {changed("/agreement_us", 1e15), "agreement_us is 1e+15: expected"},
      {changed("/links/gather_in_host/latency_us", 1e15), "links.gather_in_host.latency_us is 1e+15: expected"},
      {changed("/cores_per_rank", 1e9), "cores_per_rank is 1000000000.0: expected"},
      {changed("/cores_per_rank", 1e-9), "cores_per_rank is 1e-09: expected"},
      {changed("/threads_per_rank", 1000000), "threads_per_rank is 1000000: expected"},
      {changed("/gemm/1/width", 2000000000), "gemm[1].width is 2000000000: expected"},
      {changed("/capacity/file_bytes", 2e18), "capacity.file_bytes is 2e+18: expected"},
      {changed("/measured_seconds", 1e9), "measured_seconds is 1000000000.0: expected"},
      {changed("/unsteady", 1), "unsteady is 1: expected true or false"},
      {changed("/operation_us", "NaN"), "operation_us is \"NaN\": expected a number"},
      {changed("/operation_us", nullptr), "operation_us is null: expected a number"},
      // In another unit.
      {changed("/memory/device_gb_per_s", 3e11), "if it is meant as bytes a second, that is 300 here"},
      {changed("/links/file_write/gb_per_s", 2500000000), "if it is meant as bytes a second, that is 2.5 here"},
      {changed("/gemm/1/tflops", 6.5e14), "if it is meant as FLOP/s, that is 650 here"},
      {changed("/noise_gelements_per_s", 3e8), "if it is meant as numbers a second, that is 0.3 here"},
      {changed("/links/file_read/latency_us", 1e-4), "if it is meant as seconds, that is 100 here"},
      {changed("/operation_us", 4e-6), "if it is meant as seconds, that is 4 here"},
      {changed("/capacity/device_bytes", 80), "if it is meant as GB, that is 80000000000 here"},
      {changed("/lanes_share_cores", 1), "lanes_share_cores is 1: expected true or false"},
      {changed("/name", ""), "name is \"\": expected a text"},
      {changed("/gemm/0/type", "bf16"), "gemm has no entry of type fp32"},
      {changed("/elementwise/1/type", "fp16"), "gemm has entries of type bf16, elementwise has none"},
      {changed("/gemm/1", described()["gemm"][0]), "gemm[0] and gemm[1] are of one type and shape"},
      {changed("/elementwise/1", described()["elementwise"][0]), "elementwise[0] and elementwise[1] are of one type"}};
  // Without each of the keys that a card with peers needs.
  for (const char* key : {"/name", "/ranks_per_host", "/gemm/0/tflops", "/elementwise/1/gb_per_s", "/memory/device_gb_per_s", "/update",
                          "/links/host_to_device", "/links/gather_in_host", "/links/file_read/latency_us", "/agreement_us"}) {
    ordered_json j = described();
    const ordered_json::json_pointer at(key);
    j[at.parent_pointer()].erase(at.back());
    std::string path = std::string(key).substr(1);
    for (const auto& [from, to] : {std::pair("/0/", "[0]."), std::pair("/1/", "[1]."), std::pair("/", ".")})
      for (size_t p = 0; (p = path.find(from)) != std::string::npos;) path.replace(p, std::string(from).size(), to);
    cases.push_back({j, path + " is missing"});
  }
  for (const Case& c : cases) {
    const std::string error = error_of(c.file);
    EXPECT_SAYS(error, c.says);
    EXPECT_SAYS(error, file_);
  }
  // No other unit makes sense of a value that is absurd in any.
  for (const char* key : {"/memory/device_gb_per_s", "/operation_us", "/gemm/0/tflops", "/capacity/file_bytes"})
    for (const double value : {1e300, 1e-300, -1.0, 0.0})
      EXPECT_EQ(error_of(changed(key, value)).find("if it is meant"), std::string::npos) << key << value;
  ordered_json two = described();
  two.erase("name");
  two.erase("update");
  EXPECT_SAYS(error_of(two), "name, update are missing");
}

TEST_F(MachineFile, WhatIsNoFileOfAMachineIsCalledSo) {
  const auto error_of_file = [](const std::string& file) -> std::string {
    try {
      read_machine(file);
    } catch (const InputError& error) {
      return error.what();
    }
    return "no error";
  };
  std::ofstream(scratch_.path("empty"));
  std::ofstream(scratch_.path("blank")) << " // nothing\n";
  std::ofstream(scratch_.path("list")) << "[1]";
  std::ofstream(scratch_.path("large")) << std::string(2 << 20, ' ');
  std::string keys = "{";
  for (int i = 0; i < 10001; ++i) keys += "\"" + std::to_string(i) + "\": 1,";
  std::ofstream(scratch_.path("keys")) << keys << "}";
  std::ofstream(scratch_.path("key")) << "{\"" + std::string(300, 'k') + "\": 1}";
  for (const char* name : {"missing", "", "empty", "blank", "list", "large", "keys", "key"}) {
    const std::string error = error_of_file(scratch_.path(name));
    EXPECT_SAYS(error, "machine file");
    EXPECT_EQ(error.find("configuration"), std::string::npos) << error;
    EXPECT_SAYS(error, scratch_.path(name));
  }
}

TEST_F(MachineFile, ExamplesAreMachines) {
  const char* source = std::getenv("ZEROSTEP_SOURCE_DIR");
  ASSERT_NE(source, nullptr);
  int count = 0;
  for (const auto& entry : std::filesystem::directory_iterator(std::string(source) + "/configs/machines")) {
    const Machine m = read_machine(entry.path().string());
    EXPECT_FALSE(m.lanes_share_cores) << entry.path();
    EXPECT_GE(m.device_bytes, 20'000'000'000) << entry.path();
    EXPECT_GT(gemm_flops_per_second(m, DType::BF16, 4096, 4096), 2 * gemm_flops_per_second(m, DType::F32, 4096, 4096)) << entry.path();
    EXPECT_TRUE(m.file_read.is_known() && m.host_to_device.is_known()) << entry.path();
    EXPECT_EQ(m.ranks_per_host > 1, m.gather_across_hosts.is_known()) << entry.path();
    ++count;
  }
  EXPECT_EQ(count, 3);
}

TEST(MachineRates, ArePowerLawsBetweenMeasuredSizes) {
  Machine m;
  m.gemm = {{DType::F32, 16, 256, 1e9},   {DType::F32, 64, 256, 4e9},   {DType::F32, 256, 256, 9e9},
            {DType::F32, 16, 1024, 16e9}, {DType::F32, 64, 1024, 36e9},  // wider products have fewer sizes
            {DType::BF16, 16, 256, 5e9}};
  m.elementwise = {{DType::F32, 1e9}, {DType::BF16, 2e9}};
  const auto f32 = [&](double rows, double width) { return gemm_flops_per_second(m, DType::F32, rows, width); };
  EXPECT_DOUBLE_EQ(f32(64, 256), 4e9);
  EXPECT_NEAR(f32(32, 256), 2e9, 1);  // halfway in the logarithm of the rows: the geometric mean
  EXPECT_NEAR(f32(128, 256), 6e9, 1);
  EXPECT_NEAR(f32(16, 512), 4e9, 1);  // ... of the width
  EXPECT_NEAR(f32(32, 512), std::sqrt(2e9 * 24e9), 1);
  EXPECT_NEAR(f32(64, 256 * std::sqrt(2)), 4e9 * std::pow(9, 0.25), 10);
  EXPECT_DOUBLE_EQ(f32(1, 1), 1e9);  // beyond what is known: the nearest
  EXPECT_DOUBLE_EQ(f32(1e6, 256), 9e9);
  EXPECT_DOUBLE_EQ(f32(1e6, 1e6), 36e9);
  EXPECT_NEAR(f32(1e6, 512), 18e9, 1);
  EXPECT_DOUBLE_EQ(gemm_flops_per_second(m, DType::BF16, 999, 999), 5e9);
  EXPECT_DOUBLE_EQ(gemm_flops_per_second(m, DType::F16, 999, 999), 5e9) << "fp16 counts as bf16";
  EXPECT_DOUBLE_EQ(elementwise_bytes_per_second(m, DType::F16), 2e9);
  m.gemm.pop_back();
  m.elementwise.pop_back();
  EXPECT_DOUBLE_EQ(gemm_flops_per_second(m, DType::F16, 16, 256), 1e9) << "16 bits count as fp32";
  EXPECT_DOUBLE_EQ(elementwise_bytes_per_second(m, DType::BF16), 1e9);
  m.gemm.clear();
  EXPECT_THROW(gemm_flops_per_second(m, DType::F32, 16, 256), ProtocolError);
}

// Whatever room there is, a file that says it can be read: what is less than files can say is unknown.
TEST_F(MachineFile, EveryMeasuredCapacityReadsBack) {
  for (const auto& [room, share] : {std::pair<int64_t, int64_t>{0, 0},
                                    {1, 0},
                                    {1'000'000, 0},
                                    {1'999'999, 0},
                                    {2'000'000, 1'000'000},
                                    {3'000'001, 1'500'000},
                                    {int64_t{1} << 40, int64_t{1} << 39},
                                    {INT64_MAX, 1'000'000'000'000'000}}) {
    SCOPED_TRACE(room);
    Machine machine = read(described());
    machine.device_bytes = machine.host_bytes = machine.file_bytes = capacity_of(room, 2);
    EXPECT_EQ(machine.file_bytes, share);
    write_machine(file_, machine);
    const Machine again = read_machine(file_);
    EXPECT_EQ(again.device_bytes, share);
    EXPECT_EQ(again.host_bytes, share);
    EXPECT_EQ(again.file_bytes, share);
  }
}

}  // namespace
}  // namespace zerostep
