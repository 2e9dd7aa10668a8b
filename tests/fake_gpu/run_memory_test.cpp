#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "fake_gpu/cuda_run.h"

// What a plan says that a run needs of a GPU: with a byte less it is refused before anything starts, with that it ends well.
namespace zerostep::testing {
namespace {

using nlohmann::json;

int64_t bytes_in(const json& plan, const char* key) { return plan.at(key).get<int64_t>(); }
int64_t needed_bytes(const json& plan) { return bytes_in(plan, "device_peak_bytes") + bytes_in(plan, "piece_bytes"); }

class CudaRunMemory : public CudaRun {
 protected:
  json plan_of(const std::vector<std::string>& arguments) const {
    std::vector<std::string> all{"plan", "--json"};
    all.insert(all.end(), arguments.begin(), arguments.end());
    const Outcome planned = run(all);
    EXPECT_EQ(planned.status, 0) << planned.err;
    return json::parse(planned.out);
  }
  Outcome train(const std::vector<std::string>& arguments, int64_t memory) const {
    std::vector<std::string> all{"train", "--overwrite"};
    all.insert(all.end(), arguments.begin(), arguments.end());
    return place_.run(all, {.environment = {{"FAKE_GPU_MEMORY", std::to_string(memory)}}});
  }
};

TEST_F(CudaRunMemory, IsLimitedByTheFile) {
  const std::string file = place_.config();
  const json plan = plan_of({file});
  EXPECT_LE(bytes_in(plan, "workspace_bytes"), 8) << "numbers of the objective: libraries take nothing here";
  const int64_t bytes = needed_bytes(plan), peak = bytes_in(plan, "device_peak_bytes");
  EXPECT_GT(bytes, peak);
  const Outcome done = run({"train", file, "--set", "run.device_memory=" + std::to_string(bytes)});
  EXPECT_EQ(done.status, 0) << done.err;
  const double measured = place_.column("test", "device_peak_bytes").back();
  EXPECT_LE(measured, static_cast<double>(peak));
  EXPECT_GE(measured, 0.98 * static_cast<double>(peak));
  const Outcome small = run({"train", file, "--set", "run.name=small", "--set", "run.device_memory=" + std::to_string(bytes - 1)});
  EXPECT_EQ(small.status, 2);
  EXPECT_SAYS(small.err, "run.device_memory");
  const Outcome beyond = place_.run({"train", file, "--set", "run.name=beyond", "--set", "run.device_memory=" + std::to_string(bytes)},
                                    {.environment = {{"FAKE_GPU_MEMORY", std::to_string(peak / 2)}}});
  EXPECT_EQ(beyond.status, 2);
  EXPECT_SAYS(beyond.err, "free memory of cuda:0");
}

// Tensors that fill pieces well and badly: of 64 KiB, of 4 MiB, of 6.75 MiB (two in 20 MiB) and of 12 MiB; in 16 bits their copies in fp32
// besides; queries, which let several branches live at once; recomputation.
TEST_F(CudaRunMemory, WhatFitsRuns) {
  struct Case {
    int width, length, batch;
    const char* more;
  };
  for (const Case& c : {Case{32, 16, 4, ""}, Case{256, 256, 16, ""}, Case{768, 128, 36, R"(, "bf16": {"enabled": true})"},
                        Case{256, 256, 24, R"(, "bf16": {"enabled": true}, "activation_checkpointing": {"number_checkpoints": -1})"},
                        Case{128, 128, 8, R"(, "step": {"mode": "zo", "queries": 2})"}}) {
    SCOPED_TRACE(std::to_string(c.width) + " wide, " + std::to_string(c.batch) + " samples" + c.more);
    const std::string length = std::to_string(c.length), batch = std::to_string(c.batch);
    const std::string file = place_.config(R"("zero_optimization": {"stage": 3})" + std::string(c.more));
    const std::vector<std::string> arguments{file,
                                             "--set",
                                             "model.n_embd=" + std::to_string(c.width),
                                             "--set",
                                             "model.n_positions=" + length,
                                             "--set",
                                             "data.sequence_length=" + length,
                                             "--set",
                                             "train_batch_size=" + batch,
                                             "--set",
                                             "train_micro_batch_size_per_gpu=" + batch,
                                             "--set",
                                             "run.steps=2"};
    const int64_t bytes = needed_bytes(plan_of(arguments));
    const Outcome done = train(arguments, bytes);
    EXPECT_EQ(done.status, 0) << done.err;
    EXPECT_SAYS(done.out, "in unfilled pieces of LibTorch (");
    const Outcome refused = train(arguments, bytes - 1);
    EXPECT_EQ(refused.status, 2);
    EXPECT_SAYS(refused.err, "for the pieces in which LibTorch takes memory of a GPU; there are ");
  }
}

// What units keep besides parameters takes no piece of its own.
TEST_F(CudaRunMemory, ALlamaThatFitsRuns) {
  for (const char* more : {"", R"(, "bf16": {"enabled": true}, "step": {"mode": "zo", "queries": 2})"}) {
    place_.write("llama.json", R"({"train_batch_size": 1, "optimizer": {"type": "AdamW"}, "run": {"steps": 2, "name": "test"},
      "model": {"family": "llama", "num_hidden_layers": 1, "hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4,
                "max_position_embeddings": 48, "vocab_size": 257},
      "data": {"train": "corpus.txt", "tokenizer": "byte", "sequence_length": 48})" +
                                   std::string(more) + "}");
    const std::vector<std::string> arguments{place_.path("llama.json"), "--set", "data.train=" + place_.path("corpus.txt"), "--set",
                                             "run.output_dir=" + place_.path("runs")};
    const Outcome done = train(arguments, needed_bytes(plan_of(arguments)));
    EXPECT_EQ(done.status, 0) << done.err;
  }
}

// Directions of low rank, whose branches run together: the norm's rows are gone before attention, which holds most.
TEST_F(CudaRunMemory, BranchesOfALlamaHoldWhatThePlanSays) {
  struct Case {
    const char *model, *step;
  };
  for (const Case& c : {Case{"", R"("queries": 1)"}, Case{"", R"("queries": 1}, "bf16": {"enabled": true)"},
                        Case{R"("num_key_value_heads": 2,)", R"("queries": 4, "queries_per_pass": 2)"},
                        Case{R"("attention_bias": true,)", R"("queries": 1, "rank": 32}, "bf16": {"enabled": true)"}}) {
    SCOPED_TRACE(std::string(c.model) + " " + c.step);
    place_.write("llama.json", R"({"train_batch_size": 4, "train_micro_batch_size_per_gpu": 4, "optimizer": {"type": "SGD"},
      "run": {"steps": 1, "name": "test", "overwrite": true},
      "model": {"family": "llama", "num_hidden_layers": 2, "hidden_size": 128, "intermediate_size": 344, "num_attention_heads": 4, )" +
                                   std::string(c.model) + R"( "max_position_embeddings": 256, "vocab_size": 257},
      "data": {"train": "corpus.txt", "tokenizer": "byte", "sequence_length": 256},
      "step": {"mode": "zo", "perturbation": "low_rank", )" +
                                   c.step + "}}");
    const Outcome done = run({"train", place_.path("llama.json"), "--set", "data.train=" + place_.path("corpus.txt"), "--set",
                              "run.output_dir=" + place_.path("runs")});
    ASSERT_EQ(done.status, 0) << done.err;
    const auto planned = static_cast<double>(bytes_in(json::parse(place_.read("runs/test/plan.json")), "device_peak_bytes"));
    const double measured = place_.column("test", "device_peak_bytes").back();
    EXPECT_LE(measured, 1.005 * planned) << "LibTorch's allocator rounds each tensor up to 512 bytes";
    EXPECT_GE(measured, 0.95 * planned);
  }
}

// Where both numbers would be the same text they are exact.
TEST_F(CudaRunMemory, AByteThatLacksIsSeen) {
  const std::string file = place_.config();
  const int64_t bytes = needed_bytes(plan_of({file}));
  const Outcome refused = train({file}, bytes - 1);
  EXPECT_EQ(refused.status, 2);
  std::string needed = std::to_string(bytes), there = std::to_string(bytes - 1);
  for (std::string* digits : {&needed, &there})
    for (size_t at = digits->size(); at > 3;) digits->insert(at -= 3, ",");
  EXPECT_SAYS(refused.err, "a rank needs " + needed + " bytes at the peak (");
  EXPECT_SAYS(refused.err, "; there are " + there + " bytes (free memory of cuda:0)");
}

// Libraries that take something for themselves while a product runs: the plan measures it, and the run finds it so. It is more than all
// tensors of a unit, so that the highest moment is within a product, which not all of these live to see.
TEST_F(CudaRunMemory, WorkspaceOfProductsIsMeasured) {
  constexpr int64_t kWorkspace = 64 << 20;
  const std::string file = place_.config();
  const auto run_with = [&](int64_t workspace, std::vector<std::string> arguments, int64_t memory = int64_t{1} << 30) {
    return place_.run(arguments, {.environment = {{"XDG_CACHE_HOME", place_.path("cache" + std::to_string(memory + workspace))},
                                                  {"FAKE_GPU_MEMORY", std::to_string(memory)},
                                                  {"FAKE_GPU_WORKSPACE", std::to_string(workspace)}}});
  };
  const json plan = json::parse(run_with(kWorkspace, {"plan", "--json", file}).out);
  EXPECT_LE(bytes_in(plan, "workspace_bytes"), kWorkspace + 8) << "and numbers of the objective";
  EXPECT_GT(bytes_in(plan, "workspace_bytes"), kWorkspace - bytes_in(plan, "tensor_peak_bytes"));
  EXPECT_EQ(plan["workspace_estimated"], false);
  EXPECT_SAYS(run_with(kWorkspace, {"plan", file}).out, ", measured on this GPU\n");
  const Outcome done = run_with(kWorkspace, {"train", file});
  ASSERT_EQ(done.status, 0) << done.err;
  const double measured = place_.column("test", "device_peak_bytes").back();
  EXPECT_LE(measured, bytes_in(plan, "device_peak_bytes"));
  EXPECT_GE(measured, 0.98 * static_cast<double>(bytes_in(plan, "device_peak_bytes")));
  // Where it does not fit there is nothing to measure it in: the plan is that of tensors alone.
  const Outcome narrow = run_with(kWorkspace, {"plan", file}, kWorkspace / 2);
  EXPECT_EQ(narrow.status, 0) << narrow.err;
  EXPECT_SAYS(narrow.out, "0 bytes (0 B), but for cuBLAS's not measured on a GPU\n");
}

TEST_F(CudaRunMemory, WorkspaceOfCublasIsTold) {
  const std::string file = place_.config();
  const auto plan = [&](std::vector<std::string> more) {
    more.insert(more.begin(), {"plan", file});
    return place_.run(more, {.environment = {{"CUBLAS_WORKSPACE_CONFIG", ":65536:16"}}});
  };
  EXPECT_SAYS(plan({}).out, "of it workspace of cuBLAS    1,073,741,824 bytes (1.00 GiB), as CUBLAS_WORKSPACE_CONFIG says");
  const json with = json::parse(plan({"--json"}).out), without = plan_of({file});
  EXPECT_EQ(bytes_in(with, "blas_workspace_bytes"), int64_t{1} << 30);
  EXPECT_EQ(with["activation_peak_bytes"], without["activation_peak_bytes"]);
  EXPECT_EQ(bytes_in(with, "device_peak_bytes") - bytes_in(without, "device_peak_bytes"), int64_t{1} << 30);
  const Outcome refused = plan({"--set", "run.device_memory=100000000"});
  EXPECT_EQ(refused.status, 2);
  EXPECT_SAYS(refused.err, "1.00 GiB workspace of cuBLAS (CUBLAS_WORKSPACE_CONFIG)");
}

}  // namespace
}  // namespace zerostep::testing
