#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "fake_gpu/cuda_run.h"

// The program on the fake GPU, and without one.
namespace zerostep::testing {
namespace {

using nlohmann::json;

// The number before a unit, in bytes.
double bytes_after(const std::string& text, const std::string& words) {
  const size_t at = text.find(words);
  if (at == std::string::npos) return -1;
  char* end = nullptr;
  const double value = std::strtod(text.c_str() + at + words.size(), &end);
  const std::string unit(end, end + 3);
  return value * (unit == " Ki" ? 1 << 10 : unit == " Mi" ? 1 << 20 : unit == " Gi" ? 1 << 30 : 1);
}

TEST_F(CudaRun, TellsOfTheDeviceAndOfTheHostApart) {
  const std::string file =
      place_.config(R"("memory_breakdown": true, "wall_clock_breakdown": true, "flops_profiler": {"enabled": true, "profile_step": 1})");
  const Outcome done = run({"train", file, "--set", "run.trace=true"});
  ASSERT_EQ(done.status, 0) << done.err;
  EXPECT_SAYS(done.out, "1 on cuda:0 (Fake GPU)");
  EXPECT_SAYS(done.out, "before the model + 0 B planned + ");
  EXPECT_SAYS(done.out, "beside the plan, CUDA's libraries among it");
  // What rests on the device, and not what the process holds of the host's memory.
  const std::string moment = done.out.substr(done.out.find("memory | step 1 is done"));
  const double peak = place_.column("test", "device_peak_bytes").back();
  EXPECT_GT(bytes_after(moment, "arenas "), 0);
  EXPECT_NEAR(bytes_after(moment, "arenas ") + bytes_after(moment, "now, "), peak, 0.02 * peak);
  // The update of the profiled step is waited for.
  const std::string update = done.out.substr(done.out.find("update time"));
  EXPECT_GT(std::strtod(update.substr(11).c_str(), nullptr), 0);
  const json trace = json::parse(place_.read("runs/test/trace_rank0.json"));
  EXPECT_EQ(std::count_if(trace["traceEvents"].begin(), trace["traceEvents"].end(),
                          [](const json& event) { return event["name"] == "forward h.0"; }),
            16);
}

// Ranks that cannot have NCCL train all the same, and say why they are slower.
TEST_F(CudaRun, SaysWhyCollectivesPassThroughTheHost) {
  const std::string file = place_.config();
  using Environment = std::map<std::string, std::string>;
  const std::pair<Environment, const char*> cases[] = {
      {{{"FAKE_GPU_DEVICES", "1"}}, "ranks 0 and 1 share a GPU"},
      {{{"FAKE_GPU_DEVICES", "2"}, {"FAKE_GPU_NCCL", "0"}}, "NCCL does not start: unhandled system error"},
      {{{"FAKE_GPU_DEVICES", "2"}, {"ZEROSTEP_COMM", "staged"}}, "ZEROSTEP_COMM is 'staged'"}};
  for (const auto& [environment, reason] : cases) {
    const Outcome done = place_.run({"train", file, "--set", "run.overwrite=true"}, {.ranks = 2, .environment = environment});
    ASSERT_EQ(done.status, 0) << done.err;
    EXPECT_SAYS(done.out + done.err,
                std::string("collectives of 2 ranks pass through pinned memory of the host, slower than between GPUs: ") + reason);
  }
}

// Sums are made in the order of ranks either way.
TEST_F(CudaRun, ProcessesWithAGpuEachGoThroughNccl) {
  const std::string file = place_.config();
  const auto losses = [&](const std::string& name, std::map<std::string, std::string> environment) {
    environment.emplace("FAKE_GPU_DEVICES", "4");
    const Outcome done = place_.run({"train", file, "--set", "run.name=" + name, "--set", "zero_optimization.stage=3"},
                                    {.ranks = 4, .environment = environment});
    EXPECT_EQ(done.status, 0) << done.err;
    EXPECT_EQ((done.out + done.err).find("pass through pinned memory of the host") != std::string::npos, name == "staged") << done.out;
    return place_.column(name, "loss");
  };
  const std::vector<double> expected = losses("staged", {{"ZEROSTEP_COMM", "staged"}});
  EXPECT_FALSE(expected.empty());
  EXPECT_EQ(losses("nccl", {}), expected);
}

// Small parameters stay on the GPU, whose memory the host cannot touch in strict mode.
TEST_F(CudaRun, OffloadedStateGivesTheSameLosses) {
  const auto losses = [&](const std::string& offload, int stage, int ranks) {
    const std::string file = place_.config("\"zero_optimization\": {\"stage\": " + std::to_string(stage) + offload + "}");
    const Outcome done =
        place_.run({"train", file, "--overwrite"}, {.ranks = ranks, .environment = {{"FAKE_GPU_DEVICES", "2"}, {"FAKE_GPU_STRICT", "1"}}});
    EXPECT_EQ(done.status, 0) << done.err;
    return place_.column("test", "loss");
  };
  const std::string files = R"({"device": "nvme", "nvme_path": ")" + place_.path("scratch") + "\"}";
  const std::pair<int, int> cases[] = {{2, 1}, {3, 2}};
  for (const auto& [stage, ranks] : cases) {
    const std::vector<double> expected = losses("", stage, ranks);
    EXPECT_EQ(expected.size(), 4U);
    EXPECT_EQ(losses(R"(, "offload_optimizer": {"device": "cpu"})", stage, ranks), expected);
    if (stage == 3) EXPECT_EQ(losses(", \"offload_param\": " + files + ", \"offload_optimizer\": " + files, stage, ranks), expected);
  }
}

TEST_F(CudaRun, RanksThatShareAGpuGoThroughNcclWhereTheyAskForIt) {
  const std::string file = place_.config(R"("zero_optimization": {"stage": 3})");
  const auto train = [&](const std::string& name, const std::vector<std::string>& of_each_rank, const std::string& wish) {
    std::vector<std::string> command{"mpirun", "--allow-run-as-root", "--oversubscribe", "--bind-to", "none"};
    for (const std::string& variable : of_each_rank) {
      if (command.back() != "none") command.emplace_back(":");
      const std::vector<std::string> rank{"-np", "1", "env", variable, program(), "train", file, "--set", "run.name=" + name};
      command.insert(command.end(), rank.begin(), rank.end());
    }
    return place_.run_command(command, {.environment = {{"FAKE_GPU_DEVICES", "1"}, {"ZEROSTEP_COMM", wish}}});
  };
  for (const char* wish : {"staged", "nccl"}) {
    const Outcome done = train(wish, {"NCCL_HOSTID=one", "NCCL_HOSTID=two"}, wish);
    ASSERT_EQ(done.status, 0) << done.err;
    EXPECT_EQ((done.out + done.err).find("pass through pinned memory of the host") != std::string::npos, wish == std::string("staged"));
  }
  EXPECT_FALSE(place_.column("staged", "loss").empty());
  EXPECT_EQ(place_.column("nccl", "loss"), place_.column("staged", "loss"));

  const Outcome same = train("same", {"NCCL_HOSTID=one", "NCCL_HOSTID=one"}, "nccl");
  EXPECT_EQ(same.status, 1);
  EXPECT_SAYS(same.err,
              "NCCL refuses a start among 2 ranks: invalid usage; ranks 0 and 1 share a GPU, and ZEROSTEP_COMM is 'nccl': NCCL takes ranks "
              "that share one only where their NCCL_HOSTID differs");
  const Outcome none = train("none", {"FAKE_GPU_NCCL=0", "FAKE_GPU_NCCL=0"}, "nccl");
  EXPECT_EQ(none.status, 1);
  EXPECT_SAYS(none.err, "ZEROSTEP_COMM is 'nccl', and NCCL cannot be had: NCCL does not start: unhandled system error");
}

// Losses are those of a run without a stop, but for roundings: a GPU adds up in another order than the processor's kernels.
TEST_F(CudaRun, GoesOnFromACheckpointOfTheProcessorAndBack) {
  const std::string file = place_.config();
  const auto train = [&](bool on_gpu, const std::string& name, int steps, std::vector<std::string> more = {}) {
    std::vector<std::string> arguments{
        "train", file, "--set", "run.name=" + name, "--set", "run.steps=" + std::to_string(steps), "--set", "run.checkpoint_interval=3"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const Outcome done = on_gpu ? run(arguments) : without_gpu(arguments);
    ASSERT_EQ(done.status, 0) << done.err;
  };
  train(false, "whole", 6);
  const std::vector<double> expected = place_.column("whole", "loss");
  ASSERT_EQ(expected.size(), 6U);
  for (const bool begins_on_gpu : {false, true}) {
    const std::string name = begins_on_gpu ? "back" : "there";
    train(begins_on_gpu, name, 3);
    train(!begins_on_gpu, name, 6, {"--resume"});
    const std::vector<double> found = place_.column(name, "loss");
    ASSERT_EQ(found.size(), expected.size());
    for (size_t i = 0; i < found.size(); ++i) EXPECT_NEAR(found[i], expected[i], 1e-5 * expected[i]) << name << ", step " << i;
  }
}

// Nothing that is measured of this machine's processor is said of a GPU.
TEST_F(CudaRun, IsPlannedWithoutAGpu) {
  const std::string file = place_.config();
  const Outcome done = without_gpu({"plan", file, "--set", "run.device=\"cuda\""});
  ASSERT_EQ(done.status, 0) << done.err;
  for (const char* part :
       {"workspace of libraries     0 bytes (0 B), but for cuBLAS's not measured on a GPU",
        "of it workspace of cuBLAS    0 bytes (0 B), as CUBLAS_WORKSPACE_CONFIG says", "beside it unfilled pieces    ",
        "iB: no GPU answers here, and run.device_memory does not say how much", "--machine FILE describes a machine with GPUs"})
    EXPECT_SAYS(done.out, part);
  for (const char* part : {"this machine", "EiB"}) EXPECT_EQ(done.out.find(part), std::string::npos) << done.out;
  const std::string described = std::string(std::getenv("ZEROSTEP_SOURCE_DIR")) + "/configs/machines/rtx4090.json";
  const Outcome there = without_gpu({"plan", file, "--machine", described});
  ASSERT_EQ(there.status, 0) << there.err;
  for (const char* part : {"but for cuBLAS's not measured on a GPU", "of 22.8 GiB: of a rank in ", "predicted for RTX 4090 24 GB"})
    EXPECT_SAYS(there.out, part);
}

// Where no GPU answers nothing is measured, and the sums of flash attention's backward are those of the GPU that is described: of 2 heads,
// 16 wide, and a sample of 16 tokens an array of 2 x 128 x 32 x 4 bytes for each 2 multiprocessors. Of a file that does not say how many
// there are 192 count.
TEST_F(CudaRun, ADescribedGpuHasSumsForItsMultiprocessors) {
  const std::string file = place_.config(R"("bf16": {"enabled": true})");
  std::ifstream in(std::string(std::getenv("ZEROSTEP_SOURCE_DIR")) + "/configs/machines/rtx4090.json");
  const json described = json::parse(in, nullptr, true, /*ignore_comments=*/true);
  const auto peak = [&](std::optional<int> multiprocessors, const char* deterministic = "true") {
    json machine = described;
    machine.erase("multiprocessors");
    if (multiprocessors) machine["multiprocessors"] = *multiprocessors;
    place_.write("machine.json", machine.dump());
    const Outcome done = without_gpu(
        {"plan", file, "--json", "--machine", place_.path("machine.json"), "--set", std::string("run.deterministic=") + deterministic});
    EXPECT_EQ(done.status, 0) << done.err;
    return json::parse(done.out).at("activation_peak_bytes").get<int64_t>();
  };
  EXPECT_EQ(described["multiprocessors"], 128);
  EXPECT_EQ(peak(128) - peak(100), 14 * 32768);
  EXPECT_EQ(peak({}) - peak(128), 32 * 32768);
  EXPECT_EQ(peak(128, "false"), peak(2)) << "one array";
  EXPECT_EQ(peak(128, "false"), peak({}, "false"));
}

}  // namespace
}  // namespace zerostep::testing
