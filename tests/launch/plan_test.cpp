#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "tests/launch/support/run_binary.h"
#include "tests/runtime/support/machines.h"

// The plan against the run, on what this processor can be made to be: LibTorch's and oneDNN's instruction sets can be limited.
namespace zerostep::testing {
namespace {

using nlohmann::json;

const std::vector<std::map<std::string, std::string>> kProcessors{
    {}, {{"ATEN_CPU_CAPABILITY", "avx2"}, {"ONEDNN_MAX_CPU_ISA", "AVX2"}}, {{"ONEDNN_MAX_CPU_ISA", "AVX512_CORE"}}};

class PlanCommand : public ::testing::Test {
 protected:
  // A model so wide beside its data that libraries' workspace shows in 16 bit. Results of measurements go to a folder of the test.
  std::string config(const std::string& precision) const {
    place_.write("wide.json", R"({"train_batch_size": 4, "train_micro_batch_size_per_gpu": 4, "seed": 3, )" + precision + R"(
      "model": {"family": "gpt2", "n_layer": 1, "n_embd": 256, "n_head": 4, "n_positions": 64, "vocab_size": 257, "dropout": 0.0},
      "data": {"train": ")" + place_.path("corpus.txt") +
                                  R"(", "tokenizer": "byte", "sequence_length": 64},
      "run": {"name": "wide", "output_dir": ")" +
                                  place_.path("runs") + R"(", "steps": 2}})");
    return place_.path("wide.json");
  }
  How how(std::map<std::string, std::string> environment, std::vector<std::string> without = {}) const {
    environment["XDG_CACHE_HOME"] = place_.path("cache");
    return {.environment = std::move(environment), .without = std::move(without)};
  }
  // What is the same on every machine: all but workspace, what holds it, and what is free there.
  static json tensors_alone(json plan) {
    for (const char* key : {"device_peak_bytes", "activation_peak_bytes", "workspace_bytes", "workspace_estimated", "peak_at",
                            "device_limit_bytes", "device_limit_source"})
      EXPECT_EQ(plan.erase(key), 1u) << key;
    return plan;
  }
  Workplace place_;
};

TEST_F(PlanCommand, OnlyWorkspaceDependsOnTheProcessor) {
  json first;
  int64_t step = 0;
  for (const auto& processor : kProcessors) {
    const std::string name = "p" + std::to_string(step++), file = config(R"("bf16": {"enabled": true},)");
    const Outcome planned = place_.run({"plan", file, "--json"}, how(processor));
    ASSERT_EQ(planned.status, 0) << planned.err;
    const json plan = json::parse(planned.out);
    if (first.is_null()) first = tensors_alone(plan);
    EXPECT_EQ(tensors_alone(plan), first) << name;
    const Outcome trained = place_.run({"train", file, "--set", "run.name=" + name}, how(processor));
    ASSERT_EQ(trained.status, 0) << trained.err;
    EXPECT_EQ(tensors_alone(json::parse(place_.read("runs/" + name + "/plan.json"))), first) << name;
    const double expected = plan["device_peak_bytes"].get<double>(), measured = place_.column(name, "device_peak_bytes").back();
    EXPECT_LE(measured, 1.02 * expected) << name;
    EXPECT_LE(expected, 1.10 * measured) << name;
    EXPECT_EQ(plan["tensor_peak_bytes"].get<int64_t>() + plan["workspace_bytes"].get<int64_t>(),
              plan["activation_peak_bytes"].get<int64_t>());
  }
}

// What LibTorch allocates in threads of its own is planned and counted too.
// What does not fit is shown all the same, and is wrong input as for `train`.
TEST_F(PlanCommand, SaysWhatHelpsWhereItDoesNotFit) {
  const std::string file = place_.config();
  for (const bool as_json : {false, true}) {
    std::vector<std::string> arguments{"plan", file, "--world", "2", "--set", "run.device_memory=100000"};
    if (as_json) arguments.emplace_back("--json");
    const Outcome done = place_.run(arguments);
    EXPECT_EQ(done.status, 2) << done.err;
    EXPECT_SAYS(done.out, as_json ? "\"device_peak_bytes\"" : "workspace");
    for (const char* part : {"a rank needs", "What helps: zero_optimization.stage 3 instead of 0"}) EXPECT_SAYS(done.err, part);
    EXPECT_EQ(count(done.err, "zerostep: "), 1U);
  }
  EXPECT_EQ(place_.run({"plan", file, "--world", "2", "--set", "run.device_memory=100000000"}).status, 0);
}

TEST_F(PlanCommand, HoldsWithAnyNumberOfThreads) {
  for (const char* threads : {"1", "2", "4"}) {
    const std::string name = std::string("threads") + threads;
    const Outcome trained =
        place_.run({"train", config(R"("bf16": {"enabled": true},)"), "--set", "run.name=" + name}, how({{"OMP_NUM_THREADS", threads}}));
    ASSERT_EQ(trained.status, 0) << trained.err;
    const double expected = json::parse(place_.read("runs/" + name + "/plan.json"))["device_peak_bytes"].get<double>();
    const double measured = place_.column(name, "device_peak_bytes").back();
    EXPECT_LE(measured, 1.02 * expected) << name;
    EXPECT_LE(expected, 1.10 * measured) << name;
  }
}

// The plan measures with the threads that each of its ranks would have.
TEST_F(PlanCommand, MeasuresWithTheThreadsThatTrainingUses) {
  const std::string file = config(R"("bf16": {"enabled": true},)");
  for (const int ranks : {1, 2}) {
    const std::string name = "ranks" + std::to_string(ranks), batch = "train_batch_size=" + std::to_string(4 * ranks);
    How training = how({}, {"OMP_NUM_THREADS"});
    training.ranks = ranks;
    const Outcome planned =
        place_.run({"plan", file, "--json", "--world", std::to_string(ranks), "--set", batch}, how({}, {"OMP_NUM_THREADS"}));
    ASSERT_EQ(planned.status, 0) << planned.err;
    const Outcome trained = place_.run({"train", file, "--set", batch, "--set", "run.name=" + name}, training);
    ASSERT_EQ(trained.status, 0) << trained.err;
    EXPECT_EQ(json::parse(planned.out)["workspace_bytes"], json::parse(place_.read("runs/" + name + "/plan.json"))["workspace_bytes"])
        << ranks << " of " << trained.out;
  }
}

TEST_F(PlanCommand, MeasurementsOfTestsStayWithThem) {
  const Outcome planned = place_.run({"plan", config("")}, {.environment = {{"HOME", place_.path("home")}}});
  ASSERT_EQ(planned.status, 0) << planned.err;
  EXPECT_FALSE(place_.exists("home"));
}

TEST_F(PlanCommand, WorkspaceOfOtherMachinesIsAnEstimate) {
  const std::string file = config("");
  const Outcome here = place_.run({"plan", file}, how({}));
  EXPECT_SAYS(here.out, "workspace of libraries");
  EXPECT_SAYS(here.out, "measured on this machine");
  const Outcome wide = place_.run({"plan", file, "--world", "4096", "--set", "train_batch_size=16384"}, how({}));
  EXPECT_EQ(wide.status, 0) << wide.err;
  EXPECT_SAYS(wide.out, "an estimate from this machine");
  EXPECT_SAYS(wide.out, "Time of a step: 4096 ranks on ");
  EXPECT_SAYS(wide.out, " hosts are asked for: `" + program() + " plan --machine FILE`");
  EXPECT_TRUE(place_.exists("cache/zerostep/workspaces.jsonl"));
}

// A described machine's ranks and memory, and nothing that is measured here.
TEST_F(PlanCommand, PredictsForADescribedMachine) {
  const std::string file = config(""), machine = place_.path("small machine.json");
  write_machine(machine, small_machine());
  const std::vector<std::string> described{"plan", file, "--machine", machine, "--set", "train_batch_size=8"};
  const auto with = [&](std::vector<std::string> more) {
    more.insert(more.begin(), described.begin(), described.end());
    return place_.run(more, how({}));
  };
  const Outcome planned = with({"--json", "--trace", place_.path("lanes.json")});
  ASSERT_EQ(planned.status, 0) << planned.err;
  const json plan = json::parse(planned.out);
  EXPECT_EQ(plan["world"], 2);
  EXPECT_EQ(plan["device_limit_bytes"].get<int64_t>(), int64_t{8} << 30);
  EXPECT_EQ(plan["workspace_bytes"], 0);
  EXPECT_TRUE(plan["workspace_estimated"].get<bool>());
  const double seconds = plan["step_seconds"];
  EXPECT_GT(seconds, 0);
  EXPECT_DOUBLE_EQ(plan["tokens_per_second"].get<double>(), 8 * 64 / seconds);
  EXPECT_TRUE(plan["lane_seconds"].contains("compute"));
  EXPECT_FALSE(place_.exists("cache"));
  double end = 0;
  const json lanes = json::parse(place_.read("lanes.json"));
  for (const json& event : lanes["traceEvents"]) end = std::max(end, event["ts"].get<double>() + event["dur"].get<double>());
  EXPECT_NEAR(end, 1e6 * seconds, 1);

  // A trace is written over, nothing else is: not even the file that is planned.
  EXPECT_EQ(with({"--trace", place_.path("lanes.json")}).status, 0);
  const std::string before = place_.read("wide.json");
  const Outcome refused = with({"--trace", file});
  EXPECT_EQ(refused.status, 2);
  EXPECT_SAYS(refused.err, "that exists and is nothing that --trace wrote before");
  EXPECT_EQ(place_.read("wide.json"), before);
  for (const std::string& nowhere : {place_.path("none/lanes.json"), place_.path(""), std::string("/dev/full"),
                                     std::string("/proc/lanes.json"), place_.path(std::string(300, 'l'))}) {
    const Outcome done = with({"--trace", nowhere});
    EXPECT_EQ(done.status, 2) << nowhere;
    EXPECT_EQ(done.out, "") << "it is refused before anything is planned";
  }

  const Outcome text = with({"--world", "1", "--set", "train_batch_size=4"});
  ASSERT_EQ(text.status, 0) << text.err;
  for (const char* part :
       {"predicted for small", "bound by", "compute |", "(0 B), an estimate: what they take on the described machine is not known"})
    EXPECT_SAYS(text.out, part);
  EXPECT_EQ(text.out.find("this machine"), std::string::npos) << text.out;
  EXPECT_EQ(with({"--set", "run.device_memory=1000"}).status, 2);

  // Each tier has its limit.
  Machine narrow = small_machine();
  narrow.name = "narrow\x1b[31m";
  narrow.host_is_device = false;
  narrow.device_bytes = int64_t{8} << 30;
  narrow.host_bytes = narrow.file_bytes = int64_t{1} << 20;
  narrow.host_to_device = narrow.device_to_host = narrow.file_read = narrow.file_write = {1e-5, 1e9};
  write_machine(machine, narrow);
  const std::string state = "zero_optimization.offload_optimizer.";
  const Outcome escaped = with({"--set", "run.device_memory=100000000"});
  EXPECT_EQ(escaped.status, 0);
  EXPECT_SAYS(escaped.out, "predicted for narrow\\x1b[31m\n");
  const Outcome typed = with({"--set", "optimizer.type=A\x1b[31mdam"});
  EXPECT_EQ(typed.status, 2);
  EXPECT_EQ(typed.err.find('\x1b'), std::string::npos) << typed.err;
  const Outcome host = with({"--set", "zero_optimization.stage=1", "--set", state + "device=cpu"});
  EXPECT_EQ(host.status, 2);
  EXPECT_SAYS(host.err, "of host memory; there are 1.00 MiB");
  narrow.host_bytes = int64_t{1} << 30;
  write_machine(machine, narrow);
  const Outcome files =
      with({"--set", "zero_optimization.stage=1", "--set", state + "device=nvme", "--set", state + "nvme_path=" + place_.path("disk")});
  EXPECT_EQ(files.status, 2);
  EXPECT_SAYS(files.err, "in files; there are 1.00 MiB");
  // A disk of unknown speed: the plan has no time, and says why.
  narrow.file_bytes = int64_t{1} << 30;
  narrow.file_read = narrow.file_write = {};
  write_machine(machine, narrow);
  const Outcome untimed = with({"--json", "--set", "zero_optimization.stage=1", "--set", state + "device=nvme", "--set",
                                state + "nvme_path=" + place_.path("disk")});
  ASSERT_EQ(untimed.status, 0) << untimed.err;
  EXPECT_FALSE(json::parse(untimed.out).contains("step_seconds"));
  EXPECT_SAYS(untimed.err, "has no file_");
  const Outcome said =
      with({"--set", "zero_optimization.stage=1", "--set", state + "device=nvme", "--set", state + "nvme_path=" + place_.path("disk")});
  EXPECT_EQ(count(said.out, "has no file_"), 1u) << said.out;
  EXPECT_EQ(count(said.out, "ime of a step"), 1u) << said.out;
  EXPECT_EQ(count(said.err, "has no file_"), 0u) << "it is said once";
}

TEST_F(PlanCommand, SaysHowToGetAPrediction) {
  const std::string file = config("");
  const Outcome text = place_.run({"plan", file}, how({}));
  EXPECT_SAYS(text.out, "zerostep bench machine");
  EXPECT_SAYS(text.out, "--machine");
  EXPECT_FALSE(json::parse(place_.run({"plan", file, "--json"}, how({})).out).contains("step_seconds"));
  const Outcome refused = place_.run({"plan", file, "--trace", place_.path("lanes.json")}, how({}));
  EXPECT_EQ(refused.status, 2);
  EXPECT_SAYS(refused.err, "zerostep bench machine");
  EXPECT_FALSE(place_.exists("lanes.json"));
}

TEST_F(PlanCommand, ReadsTablesOfClassification) {
  place_.write("rows.tsv", "good film\t1\nbad film\t0\n");
  place_.write("vocab.txt", "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\ngood\nbad\nfilm\n");
  const std::vector<std::string> of_table{"plan",
                                          config(""),
                                          "--json",
                                          "--set",
                                          R"(model={"family": "bert", "num_hidden_layers": 1, "hidden_size": 32, "intermediate_size": 64,
                                          "num_attention_heads": 2, "max_position_embeddings": 64, "num_labels": 2})",
                                          "--set",
                                          "data.tokenizer=" + place_.path("vocab.txt"),
                                          "--set"};
  const auto with = [&](const std::string& set) {
    std::vector<std::string> out = of_table;
    out.push_back(set);
    return place_.run(out, how({}));
  };
  EXPECT_EQ(with("data.train=" + place_.path("rows.tsv")).status, 0);
  const Outcome refused = with("data.train=" + place_.path("nowhere.tsv"));
  EXPECT_EQ(refused.status, 2);
  EXPECT_SAYS(refused.err, "data.train");
  EXPECT_SAYS(refused.err, "nowhere.tsv");
}

}  // namespace
}  // namespace zerostep::testing
