#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include "fake_gpu/cuda_run.h"
#include "launch/rank_devices.h"

// Which devices ranks compute on, and what they must have in common.
namespace zerostep::testing {
namespace {

class CudaRunDevices : public CudaRun {
 protected:
  // Each rank with a variable of its own ("": without it), on two GPUs.
  Outcome train_with(const std::string& variable, const std::vector<std::string>& values, const std::vector<std::string>& arguments) const {
    std::vector<std::string> command{"mpirun", "--allow-run-as-root", "--oversubscribe", "--bind-to", "none"};
    for (size_t rank = 0; rank < values.size(); ++rank) {
      if (rank > 0) command.emplace_back(":");
      command.insert(command.end(), {"-np", "1", "env", variable + "=" + values[rank], program()});
      command.insert(command.end(), arguments.begin(), arguments.end());
    }
    return place_.run_command(command, {.environment = {{"FAKE_GPU_DEVICES", "2"}}});
  }
};

TEST_F(CudaRunDevices, RanksOnDifferentKindsAreAnInputError) {
  const std::string file = place_.config();
  for (const char* const run : {"train", "eval"}) {
    const Outcome mixed = train_with("CUDA_VISIBLE_DEVICES", {"0", "", "1", ""},
                                     {run, file, "--device", "auto", "--set", "data.eval=" + place_.path("corpus.txt")});
    EXPECT_EQ(mixed.status, 2) << mixed.out;
    EXPECT_EQ(count(mixed.err, "zerostep: "), 1U) << mixed.err;
    for (const char* part : {"run.device is \"auto\": ranks 0, 2 would compute on \"cuda\", and ranks 1, 3 on \"cpu\"",
                             "CUDA_VISIBLE_DEVICES is ''", "--device cpu", "--device cuda"})
      EXPECT_SAYS(mixed.err, part);
    EXPECT_FALSE(place_.exists("runs/test"));
  }
  const Outcome without = train_with("CUDA_VISIBLE_DEVICES", {"", "0"}, {"train", file, "--device", "cpu"});
  EXPECT_EQ(without.status, 0) << without.err;
}

TEST_F(CudaRunDevices, WhatResultsOfProductsDependOnIsTheSameOnAllRanks) {
  const std::string file = place_.config();
  const Outcome differs = train_with("CUBLAS_WORKSPACE_CONFIG", {":16:8", ":4096:8", ":16:8", ":16:8"}, {"train", file});
  EXPECT_EQ(differs.status, 2) << differs.out;
  EXPECT_SAYS(differs.err, "CUBLAS_WORKSPACE_CONFIG is ':16:8' on ranks 0, 2-3, ':4096:8' on rank 1: results");
  const Outcome tf32 = train_with("NVIDIA_TF32_OVERRIDE", {"0", "1"}, {"train", file});
  EXPECT_EQ(tf32.status, 2) << tf32.out;
  EXPECT_SAYS(tf32.err, "NVIDIA_TF32_OVERRIDE is '0' on rank 0, '1' on rank 1");
  const Outcome on_processor = train_with("NVIDIA_TF32_OVERRIDE", {"0", "1"}, {"train", file, "--device", "cpu"});
  EXPECT_EQ(on_processor.status, 0) << on_processor.err;
}

TEST_F(CudaRunDevices, TheHeaderNamesThem) {
  const std::string file = place_.config();
  const auto header = [&](int ranks, const char* gpus) {
    const Outcome done =
        place_.run({"train", file, "--overwrite", "--set", "run.steps=1"}, {.ranks = ranks, .environment = {{"FAKE_GPU_DEVICES", gpus}}});
    EXPECT_EQ(done.status, 0) << done.err;
    return done.out;
  };
  EXPECT_SAYS(header(4, "4"), "4 on cuda:0-3 (Fake GPU), ");
  EXPECT_SAYS(header(4, "2"), "4 on cuda:0-1 (Fake GPU), ");
  EXPECT_SAYS(header(1, "4"), "1 on cuda:0 (Fake GPU), ");
  // Each rank sees its own alone.
  const Outcome own = train_with("CUDA_VISIBLE_DEVICES", {"0", "1"}, {"train", file, "--overwrite"});
  EXPECT_EQ(own.status, 0) << own.err;
  EXPECT_SAYS(own.out, "2 on 2 GPUs (Fake GPU), ");
}

TEST_F(CudaRunDevices, EvaluationAndPlanTakeADevice) {
  const std::string file = place_.config();
  const std::string eval = "data.eval=" + place_.path("corpus.txt");
  EXPECT_SAYS(run({"plan", file}).out, "unfilled pieces");
  EXPECT_EQ(run({"plan", file, "--device", "cpu"}).out.find("unfilled pieces"), std::string::npos);
  // The libraries of the fake give attention its plain form on the processor too.
  const auto loss = [&](const Outcome& done) {
    EXPECT_EQ(done.status, 0) << done.err;
    return done.out.starts_with("loss ") ? std::strtod(done.out.c_str() + 5, nullptr) : 0;
  };
  const double on_processor = loss(without_gpu({"eval", file, "--set", eval}));
  EXPECT_EQ(loss(without_gpu({"eval", file, "--set", eval, "--device", "cpu"})), on_processor);
  EXPECT_NEAR(loss(run({"eval", file, "--set", eval, "--device", "cpu"})), on_processor, 1e-6);
  const Outcome lacking = without_gpu({"eval", file, "--set", eval, "--device", "cuda"});
  EXPECT_EQ(lacking.status, 2);
  for (const char* part : {"--device cuda: run.device is \"cuda\": no GPU answers: ", "`nvidia-smi` shows GPUs and their driver",
                           "or later. \"cpu\", or --device cpu, computes on the processor"})
    EXPECT_SAYS(lacking.err, part);
  const Outcome unknown = run({"eval", file, "--set", eval, "--device", "tpu"});
  EXPECT_EQ(unknown.status, 2);
  EXPECT_SAYS(unknown.err, "--device tpu");
}

// Without a word on GPUs, each run of a sweep has one for itself whose memory its plan fits.
TEST_F(CudaRunDevices, RunsOfASweepHaveGpusOfTheirOwn) {
  place_.write("sweep.json", R"({"base": ")" + place_.config() + R"(", "name": "many", "output_dir": ")" + place_.path("runs") +
                                 R"(", "runs": [{"seed": 1}, {"seed": 2}, {"model.n_embd": 256}, {"run.device": "cpu"}]})");
  const auto sweep = [&](const char* gpus, std::vector<std::string> options) {
    options.insert(options.begin(), {"sweep", place_.path("sweep.json")});
    return place_.run(options, {.environment = {{"FAKE_GPU_DEVICES", gpus}, {"FAKE_GPU_MEMORY", "8388608"}}});
  };
  EXPECT_SAYS(sweep("1", {"--dry-run"}).out, "; 1 job at once on cuda:0; ");
  const Outcome many = sweep("1", {"--jobs", "2"});
  EXPECT_EQ(many.status, 2);
  EXPECT_SAYS(many.err, "2 jobs with 1 rank each need 2 GPUs, and 1 is there");
  const Outcome beyond = sweep("2", {"--gpus", "2"});
  EXPECT_EQ(beyond.status, 2);
  EXPECT_SAYS(beyond.err, "GPU 2 is asked for (--gpus, resources.gpus), and 2 GPUs are here; they count from 0");
  EXPECT_FALSE(place_.exists("runs/many"));
  const Outcome done = sweep("2", {});
  EXPECT_EQ(done.status, 1) << done.err;
  const std::string rows = place_.read("runs/many/runs.csv");
  for (const char* part :
       {",done,cuda:0,0,", ",done,cuda:1,0,", ",done,cpu,0,", ",failed,,2,", " MiB are missing", "(free memory of cuda:0)"})
    EXPECT_SAYS(rows, part);
  EXPECT_SAYS(place_.read("runs/many/seed=2/output.txt"), "1 on cuda:0 (Fake GPU), ");  // the only one that it sees
  EXPECT_SAYS(place_.read("runs/many/run.device=cpu/output.txt"), "1 on cpu, ");
}

// What a run initialises is told by the dynamic linker (ld.so(8)): one on the processor starts without anything of CUDA.
TEST_F(CudaRunDevices, ARunOfTheProcessorLoadsNothingOfCuda) {
  const std::string file = place_.config();
  for (const char* const device : {"cpu", "cuda"}) {
    const std::string folder = place_.path(device);
    std::filesystem::create_directories(folder);
    const std::map<std::string, std::string> tells{{"LD_DEBUG", "files"}, {"LD_DEBUG_OUTPUT", folder + "/loaded"}};
    const std::string program = std::string(std::getenv("ZEROSTEP_BUILD")) + "/zerostep";
    const bool on_gpu = device == std::string("cuda");
    const std::vector<std::string> train{on_gpu ? testing::program() : program, "train", file, "--device", device, "--overwrite"};
    const Outcome done = place_.run_command(train, {.environment = tells});
    ASSERT_EQ(done.status, 0) << done.err;
    std::string loaded;
    for (const auto& entry : std::filesystem::directory_iterator(folder)) {
      std::ifstream in(entry.path());
      for (std::string line; std::getline(in, line);)
        if (line.find("calling init: ") != std::string::npos) loaded += line + '\n';
    }
    EXPECT_SAYS(loaded, "libtorch_cpu.so");
    EXPECT_EQ(count(loaded, "libzerostep_cuda.so") > 0, on_gpu);
    // libcudart.so and what tells of kernels are of LibTorch's part for the processor, where it is one for CUDA.
    for (const char* const library : {"libcuda.so", "libnccl.so", "libtorch_cuda.so", "libcublas.so"})
      if (!on_gpu) EXPECT_EQ(count(loaded, library), 0U) << library;
  }
}

TEST(RankDevices, AreToldTogether) {
  const auto gpu = [](const char* host, int index, const char* model, const char* identity) {
    return RankDevice{host, "cuda:" + std::to_string(index), model, identity};
  };
  EXPECT_EQ(devices_text({{"a", "cpu", "", "cpu"}, {"b", "cpu", "", "cpu"}}), "cpu");
  EXPECT_EQ(devices_text({gpu("a", 0, "H200", "1")}), "cuda:0 (H200)");
  EXPECT_EQ(devices_text({gpu("a", 0, "H200", "1"), gpu("a", 1, "H200", "2"), gpu("a", 3, "H200", "3")}), "cuda:0-1, 3 (H200)");
  EXPECT_EQ(devices_text({gpu("a", 0, "H200", "1"), gpu("a", 1, "A100", "2")}), "cuda:1 (A100), cuda:0 (H200)");
  EXPECT_EQ(devices_text({gpu("a", 0, "H200", "1"), gpu("a", 0, "H200", "1")}), "cuda:0 (H200)");
  EXPECT_EQ(devices_text({gpu("a", 0, "H200", "1"), gpu("b", 0, "H200", "2")}), "cuda:0 (H200) of each host");
  EXPECT_EQ(devices_text({gpu("a", 0, "H200", "1"), gpu("b", 0, "A100", "2")}), "cuda:0 (H200) of a, cuda:0 (A100) of b");
  EXPECT_EQ(devices_text({gpu("a", 0, "H200", "1"), gpu("a", 0, "H200", "2")}), "2 GPUs (H200)");
}

}  // namespace
}  // namespace zerostep::testing
