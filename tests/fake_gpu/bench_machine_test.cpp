#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "fake_gpu/cuda_run.h"
#include "runtime/timing/machine.h"

// `bench machine` on the fake GPU: what it measures, where that is kept, and who finds it.
namespace zerostep::testing {
namespace {

class CudaBenchMachine : public CudaRun {
 protected:
  CudaBenchMachine() { std::filesystem::create_directories(place_.path("disk")); }
  std::map<std::string, std::string> environment(std::map<std::string, std::string> more = {}) const {
    more.insert({{"XDG_CACHE_HOME", place_.path("cache")}, {"FAKE_GPU_DEVICES", "1"}, {"OMP_NUM_THREADS", "1"}});
    return more;
  }
  Outcome measure(std::vector<std::string> more, int ranks = 1, const std::map<std::string, std::string>& variables = {}) const {
    std::vector<std::string> arguments{"bench", "machine", "--seconds", ranks > 1 ? "1" : "0.5", "--scratch", place_.path("disk")};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return place_.run(arguments, {.ranks = ranks, .environment = environment(variables), .timeout_seconds = 120});
  }
  Outcome plan(const std::vector<std::string>& more, const char* gpus = "1") const {
    std::vector<std::string> arguments{"plan"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return place_.run(arguments, {.environment = environment({{"FAKE_GPU_DEVICES", gpus}})});
  }
  std::vector<std::string> kept() const {
    std::vector<std::string> out;
    for (const auto& entry : std::filesystem::directory_iterator(place_.path("cache/zerostep/machines"))) out.push_back(entry.path());
    std::sort(out.begin(), out.end());
    return out;
  }
  // As it calls itself: the script starts it there.
  static std::string binary() { return std::string(std::getenv("ZEROSTEP_BUILD")) + "/zerostep"; }
  Machine read(const std::string& file) const { return read_machine(place_.path(file)); }
};

// Everything that a description of a machine with GPUs has.
void expect_gpu_machine(const Machine& m, int ranks) {
  EXPECT_EQ(m.name, "Fake GPU");
  EXPECT_FALSE(m.host_is_device);
  EXPECT_FALSE(m.lanes_share_cores);
  EXPECT_EQ(m.multiprocessors, 4);
  EXPECT_EQ(m.ranks_per_host, ranks);
  EXPECT_GT(m.device_bytes, 0);
  EXPECT_GT(m.host_bytes, 0);
  EXPECT_GT(m.file_bytes, 0);
  for (const DType type : {DType::F32, DType::BF16, DType::F16}) {
    EXPECT_TRUE(std::any_of(m.gemm.begin(), m.gemm.end(), [&](const GemmRate& rate) { return rate.type == type; })) << name_of(type);
    EXPECT_GT(elementwise_bytes_per_second(m, type), 0) << name_of(type);
    for (const bool backward : {false, true}) EXPECT_GT(attention_rate(m, type, backward).flops_per_second, 0) << name_of(type);
  }
  for (const GemmRate& rate : m.gemm) EXPECT_GT(rate.flops_per_second, 0) << name_of(rate.type) << rate.rows << "x" << rate.width;
  for (const double figure : {m.operation_seconds, m.memory_bytes_per_second, m.noise_elements_per_second,
                              m.noise_16bit_elements_per_second, m.update_bytes_per_second, m.host_update_bytes_per_second})
    EXPECT_GT(figure, 0);
  for (const Link* link : {&m.host_to_device, &m.device_to_host, &m.file_read, &m.file_write}) {
    EXPECT_GT(link->bytes_per_second, 0);
    EXPECT_GT(link->latency_seconds, 0);
  }
  EXPECT_EQ(m.gather_in_host.is_known(), ranks > 1);
  EXPECT_EQ(m.reduce_in_host.is_known(), ranks > 1);
  EXPECT_EQ(m.agreement_seconds > 0, ranks > 1);
}

// No copy is faster than its link, and one of 1.75 MiB at 0.1 GB/s takes 18 ms, twice as long the other way: a copy of 4 KiB, which the
// latency is taken from, and what wakes up late take less than a fifth of that, on a busy machine too.
TEST_F(CudaBenchMachine, MeasuresWhatADescriptionOfAGpuHas) {
  place_.config();
  const double up = 1e8, down = 5e7;
  const Outcome done =
      measure({"--device", "cuda", "--out", place_.path("gpu.json")}, 1,
              {{"FAKE_GPU_STRICT", "1"}, {"FAKE_GPU_TO_DEVICE", std::to_string(up)}, {"FAKE_GPU_TO_HOST", std::to_string(down)}});
  ASSERT_EQ(done.status, 0) << done.err;
  const Machine machine = read("gpu.json");
  expect_gpu_machine(machine, 1);
  EXPECT_NEAR(machine.host_to_device.bytes_per_second, up, 0.2 * up);
  EXPECT_NEAR(machine.device_to_host.bytes_per_second, down, 0.2 * down);
  EXPECT_EQ(machine.device_bytes, int64_t{8} << 30);
  EXPECT_SAYS(done.err, "measuring cuda:0 (Fake GPU) and the host beside it");
  for (const char* line :
       {"cuda:0 (Fake GPU), 1 rank a host, 1 thread each\n", " wide on cuda:0\n", "memory                     cuda:0     ",
        "AdamW                      cuda:0     ", "AdamW                      host     ", "copies                     host -> cuda:0      ",
        "copies                     cuda:0 -> host      ", "file reads                 host     ",
        "copies go                  through pinned memory\n"})
    EXPECT_SAYS(done.out, line);
  EXPECT_TRUE(std::filesystem::is_empty(place_.path("disk"))) << "scratch files are left";
}

TEST_F(CudaBenchMachine, FiguresOfBothDevicesAreKeptSideBySide) {
  const std::string file = place_.config();
  const std::string measures = binary() + " bench machine --device cuda` measures ";
  EXPECT_SAYS(plan({file, "--device", "cuda"}).out, "Time of a step: `" + measures + "what a prediction needs of Fake GPU, ");
  ASSERT_EQ(measure({}).status, 0);  // a GPU where one answers
  ASSERT_EQ(kept().size(), 1U);
  EXPECT_SAYS(plan({file, "--device", "cpu"}).out,
              "Time of a step: `" + binary() + " bench machine --device cpu` measures what a prediction needs, ");
  ASSERT_EQ(measure({"--device", "cpu", "--ranks", "1"}).status, 0);
  ASSERT_EQ(kept().size(), 2U);
  for (const std::string& path : kept()) {
    Machine machine = read_machine(path);
    machine.name = machine.host_is_device ? "the processor" : "the GPU";
    write_machine(path, machine);
  }
  EXPECT_SAYS(plan({file, "--device", "auto"}).out, "Time of a step, predicted for the GPU");
  EXPECT_SAYS(plan({file, "--device", "cpu"}).out, "Time of a step, predicted for the processor");
  const Outcome trained = place_.run({"train", file, "--device", "cuda", "--set", "run.steps=2"}, {.environment = environment()});
  ASSERT_EQ(trained.status, 0) << trained.err;
  EXPECT_SAYS(trained.out, "\npredicted      ");
  // One rank tells nothing of collectives.
  EXPECT_SAYS(plan({file, "--device", "cuda", "--world", "2"}, "2").out,
              "Time of a step: this machine was measured with 1 rank on Fake GPU, and 2 ranks are asked for: `mpirun -np 2 " + measures);
}

TEST_F(CudaBenchMachine, RanksOfMpirunMeasureTheirCollectives) {
  const std::string file = place_.config();
  const Outcome shared = measure({"--out", place_.path("shared.json")}, 2);
  ASSERT_EQ(shared.status, 0) << shared.err;
  expect_gpu_machine(read("shared.json"), 2);
  EXPECT_EQ(count(shared.err, "collectives of 2 ranks pass through pinned memory of the host"), 1U) << shared.err;
  EXPECT_SAYS(shared.out, "gathers, reductions go by  mpi (shared memory), staged in pinned memory\n");
  EXPECT_EQ(read("shared.json").device_bytes, int64_t{4} << 30) << "of 8 GiB, which two ranks share";
  const Outcome own = measure({"--out", place_.path("own.json")}, 2, {{"FAKE_GPU_DEVICES", "2"}});
  ASSERT_EQ(own.status, 0) << own.err;
  expect_gpu_machine(read("own.json"), 2);
  EXPECT_SAYS(own.out, "cuda:0-1 (Fake GPU), 2 ranks a host");
  EXPECT_SAYS(own.out, "gathers in a host          cuda:0-1 ");
  EXPECT_SAYS(own.out, "gathers, reductions go by  nccl\n");
  EXPECT_EQ(kept().size(), 2U) << "ranks that share a GPU are slower than ranks with one each";
  const Outcome planned = plan({file, "--device", "cuda", "--world", "2", "--set", "zero_optimization.stage=3"});
  EXPECT_SAYS(planned.out, "Time of a step, predicted for Fake GPU");
}

TEST_F(CudaBenchMachine, SaysWhatLacks) {
  const Outcome without = without_gpu({"bench", "machine", "--device", "cuda"});
  EXPECT_EQ(without.status, 2);
  EXPECT_SAYS(without.err, "--device cuda: run.device is \"cuda\": no GPU answers: ");
  EXPECT_SAYS(without.err, "--device cpu, computes on the processor");
  const Outcome threads = measure({"--ranks", "2"});
  EXPECT_EQ(threads.status, 2);
  EXPECT_SAYS(threads.err, "`mpirun -np 2 " + binary() + " bench machine --device cuda` measures ranks on GPUs");
  const Outcome unknown = measure({"--device", "gpu"});
  EXPECT_EQ(unknown.status, 2);
  EXPECT_SAYS(unknown.err, "--device is 'gpu'; expected cpu, cuda or auto");
  const std::string file = place_.config();
  const Outcome planned = without_gpu({"plan", file, "--device", "cuda"});
  EXPECT_SAYS(planned.out, "no GPU answers here: --machine FILE describes a machine with GPUs, and `");
  EXPECT_SAYS(planned.out, " bench machine --device cuda` measures one there");
}

}  // namespace
}  // namespace zerostep::testing
