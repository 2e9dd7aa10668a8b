#include "runtime/memory/workspace.h"

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "models/gpt2/gpt2.h"
#include "models/llama/llama.h"
#include "tests/support/scratch_folder.h"

namespace zerostep {
namespace {

std::unique_ptr<ModelDefinition> model_of(int64_t layers, int64_t width) {
  return make_gpt2({.n_layer = layers,
                    .n_embd = width,
                    .n_head = 2,
                    .n_positions = 256,
                    .vocab_size = 61,
                    .resid_pdrop = 0,
                    .embd_pdrop = 0,
                    .attn_pdrop = 0});
}

std::vector<std::string> lines_of(const std::string& file) {
  std::vector<std::string> out;
  std::ifstream in(file);
  for (std::string line; std::getline(in, line);) out.push_back(line);
  return out;
}

class WorkspaceMeters : public ::testing::Test {
 protected:
  void SetUp() override { at::set_num_threads(1); }
  void TearDown() override { at::set_num_threads(1); }
  ScratchFolder scratch_;
  const std::string file_ = scratch_.path("cache/workspaces.jsonl");
  const std::unique_ptr<ModelDefinition> model_ = model_of(3, 32);
  const std::unique_ptr<Objective> objective_ = make_cross_entropy();
};

TEST_F(WorkspaceMeters, UnitsOfOneKindAreMeasuredOnce) {
  WorkspaceMeter meter(file_);
  const Workspaces found = meter.workspaces_of(*model_, *objective_, {2, 16, DType::F32, true, false});
  EXPECT_EQ(found.units.size(), 5u);
  EXPECT_FALSE(found.extrapolated);
  ASSERT_EQ(lines_of(file_).size(), 1u);
  EXPECT_EQ(nlohmann::json::parse(lines_of(file_)[0]).at("units").size(), 3u) << "embedding, block, head";
}

// Flash attention takes a block of scores for each thread: 4 (queries x keys + 2 queries + queries x head width) bytes, with 64 queries and
// 256 keys here (LibTorch 2.11), at a moment when fewer tensors are live than at the peak. fp32 products take nothing.
TEST_F(WorkspaceMeters, AttentionTakesItsBlocksOfScores) {
  WorkspaceMeter meter;
  const auto narrow = model_of(1, 4);  // so narrow that scores outweigh tensors
  const Workspaces found = meter.workspaces_of(*narrow, *objective_, {1, 256, DType::F32, false, false});
  const int64_t scores = 4 * (64 * 256 + 2 * 64 + 64 * 2);
  // At the peak of the tensors the block's MLP is live: 6 widths of 4 bytes for 256 tokens, and statistics; in attention 5 widths.
  EXPECT_LE(found.units[1].inference_bytes, scores + 4096);
  EXPECT_GE(found.units[1].inference_bytes, scores - 4 * 256 * 8 * 4);
}

TEST_F(WorkspaceMeters, ResultsAreKeptForLaterProcesses) {
  const WorkspaceShape shape{2, 16, DType::BF16, true, false};
  WorkspaceMeter(file_).workspaces_of(*model_, *objective_, shape);
  const std::string line = lines_of(file_).at(0);
  auto entry = nlohmann::json::parse(line);
  entry["units"][1] = {1, 2, 3, 4};
  // Half a line, as a killed process leaves it, hides nothing.
  std::ofstream(file_) << line.substr(0, 30) << "\n" << entry.dump() << "\n";
  const Workspaces found = WorkspaceMeter(file_).workspaces_of(*model_, *objective_, shape);
  EXPECT_EQ(found.units[1].inference_bytes, 1);
  EXPECT_EQ(found.units[3].accumulating_backward_bytes, 4);
  EXPECT_EQ(lines_of(file_).size(), 2u) << "nothing was measured again";
}

TEST_F(WorkspaceMeters, WhatChangesTheResultChangesTheKey) {
  const WorkspaceShape shape{2, 16, DType::F32, false, false};
  WorkspaceMeter(file_).workspaces_of(*model_, *objective_, shape);
  WorkspaceMeter(file_).workspaces_of(*model_, *objective_, {2, 16, DType::BF16, false, false});
  WorkspaceMeter(file_).workspaces_of(*model_, *objective_, {1, 16, DType::F32, false, false});
  WorkspaceMeter(file_).workspaces_of(*model_of(3, 36), *objective_, shape);
  at::set_num_threads(2);
  WorkspaceMeter(file_).workspaces_of(*model_, *objective_, shape);
  EXPECT_EQ(lines_of(file_).size(), 5u);
  WorkspaceMeter(file_).workspaces_of(*model_, *objective_, shape);
  EXPECT_EQ(lines_of(file_).size(), 5u);
}

TEST_F(WorkspaceMeters, AFileThatCannotBeWrittenIsDoneWithout) {
  WorkspaceMeter meter("/proc/no/where/workspaces.jsonl");
  EXPECT_EQ(meter.workspaces_of(*model_, *objective_, {2, 16, DType::F32, false, false}).units.size(), 5u);
}

// A shape of some teraflops is measured on fewer samples. What does not depend on their number stays: scores by thread.
TEST_F(WorkspaceMeters, LargeShapesAreCarriedOnFromSmallerOnes) {
  const auto wide = model_of(1, 256);
  const WorkspaceShape small{8, 64, DType::F32, false, false}, large{1 << 15, 64, DType::F32, false, false};
  WorkspaceMeter meter;
  const Workspaces few = meter.workspaces_of(*wide, *objective_, small);
  EXPECT_FALSE(meter.extrapolated());
  const Workspaces many = meter.workspaces_of(*wide, *objective_, large);
  EXPECT_TRUE(meter.extrapolated());
  EXPECT_TRUE(many.extrapolated);
  EXPECT_NEAR(static_cast<double>(many.units[1].inference_bytes), static_cast<double>(few.units[1].inference_bytes), 4096);
}

std::unique_ptr<ModelDefinition> model_of_inner_width(int64_t width) {
  LlamaOptions o;
  o.hidden_size = 64, o.intermediate_size = width, o.num_hidden_layers = 2, o.num_attention_heads = 2, o.vocab_size = 61;
  o.max_position_embeddings = 64;
  return make_llama(o);
}

bool operator==(const Workspace& a, const Workspace& b) {
  return a.inference_bytes == b.inference_bytes && a.forward_bytes == b.forward_bytes && a.backward_bytes == b.backward_bytes &&
         a.accumulating_backward_bytes == b.accumulating_backward_bytes && a.is_measured == b.is_measured;
}

// A block whose matrices alone are 3 x 64 x 2^22 x 4 bytes is not run; what stands around it is measured as beside a small one.
TEST_F(WorkspaceMeters, UnitsThatAreTooLargeAreTheOnlyOnesThatAreNotMeasured) {
  const auto large = model_of_inner_width(int64_t{1} << 22), small = model_of_inner_width(64);
  for (const bool graph : {false, true}) {
    const WorkspaceShape shape{2, 64, DType::F32, graph, false};
    WorkspaceMeter whole;
    const Workspaces expected = whole.workspaces_of(*small, *objective_, shape);
    EXPECT_FALSE(whole.extrapolated());
    for (int round = 0; round < 2; ++round) {  // measured, and read from the file
      WorkspaceMeter meter(file_);
      const Workspaces found = meter.workspaces_of(*large, *objective_, shape);
      EXPECT_TRUE(meter.extrapolated());
      ASSERT_EQ(found.units.size(), 4u);
      EXPECT_TRUE(found.units[0] == expected.units[0]);
      EXPECT_TRUE(found.units[3] == expected.units[3]);
      EXPECT_TRUE(found.objective == expected.objective);
      for (const size_t block : {1, 2}) EXPECT_TRUE(found.units[block] == Workspace{.is_measured = false});
    }
  }
  EXPECT_EQ(lines_of(file_).size(), 2u);
}

}  // namespace
}  // namespace zerostep
