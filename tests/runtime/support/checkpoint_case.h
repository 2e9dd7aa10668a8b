#pragma once
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "runtime/checkpoint/checkpoint_reader.h"
#include "runtime/checkpoint/checkpoint_writer.h"
#include "tests/support/scratch_folder.h"

namespace zerostep::testing {

namespace fs = std::filesystem;

// Checkpoints of two parameters and two arrays of the optimizer, whose values tell their step.
class Checkpoints : public ::testing::Test {
 protected:
  void SetUp() override {
    at::set_num_threads(1);
    matrix_.name = "matrix";
    matrix_.shape = {30, 40};
    vector_.name = "a.vector";
    vector_.shape = {7};
  }

  std::string folder() const { return (root_ / "checkpoints").string(); }
  // Element i of the state at a step.
  static float value(int64_t step, int array, int64_t i) { return static_cast<float>(step * 10000 + (array + 1) * 2000 + i); }

  // The memory of one of `ranks`: every rank has its part of each array.
  struct Rank {
    std::vector<std::vector<float>> arrays;
    std::vector<StatePiece> pieces;
    CopyState copy() const {
      return [this](std::span<std::byte* const> targets) {
        for (size_t i = 0; i < arrays.size(); ++i) std::memcpy(targets[i], arrays[i].data(), arrays[i].size() * sizeof(float));
      };
    }
  };
  Rank state_of(int rank, int ranks, int64_t step) const {
    Rank out;
    for (const ParameterInfo* p : {&matrix_, &vector_})
      for (int array = -1; array < 2; ++array) {
        const int64_t n = p->num_elements(), begin = n * rank / ranks, end = n * (rank + 1) / ranks;
        std::vector<float>& values = out.arrays.emplace_back();
        for (int64_t i = begin; i < end; ++i) values.push_back(value(step, array, i));
        out.pieces.push_back({p, array, begin, end - begin, DType::F32});
      }
    return out;
  }
  static void set_step(Rank& rank, int64_t step) {
    for (size_t a = 0; a < rank.arrays.size(); ++a)
      for (size_t i = 0; i < rank.arrays[a].size(); ++i)
        rank.arrays[a][i] = value(step, rank.pieces[a].array, rank.pieces[a].begin + static_cast<int64_t>(i));
  }
  static Manifest manifest_of(int64_t step) {
    Manifest m;
    m.program = "test";
    m.step = step;
    m.engine = {{"scale", 0.1}};
    m.configuration = {{"seed", 3}};
    m.model = {{"n_layer", 2}};
    m.identity = {{"seed", 3}};
    return m;
  }
  CheckpointWriter::Options options(int rank = 0, int ranks = 1, Disk* disk = &Disk::real()) const {
    return {folder(), rank, ranks, 2, 10, disk};
  }
  void save(int64_t step, int ranks = 1) const {
    std::vector<Rank> states;
    std::vector<std::unique_ptr<CheckpointWriter>> writers;
    for (int r = 0; r < ranks; ++r) states.push_back(state_of(r, ranks, step));
    for (int r = 0; r < ranks; ++r)
      writers.push_back(std::make_unique<CheckpointWriter>(options(r, ranks), states[static_cast<size_t>(r)].pieces,
                                                           states[static_cast<size_t>(r)].copy()));
    for (auto& w : writers) w->save(manifest_of(step));
    for (auto& w : writers) w->finish();
  }
  // The checkpoint is whole and holds the values of its step.
  void expect_whole(const std::string& directory) const {
    CheckpointReader reader(directory);
    for (size_t f = 0; f < reader.manifest().files.size(); ++f) reader.verify(f);
    reader.open();
    for (const ParameterInfo* p : {&matrix_, &vector_})
      for (int array = -1; array < 2; ++array) {
        std::vector<float> found(static_cast<size_t>(p->num_elements()));
        reader.read(p->name, array, 0, p->num_elements(), found.data());
        for (size_t i = 0; i < found.size(); ++i)
          ASSERT_EQ(found[i], value(reader.manifest().step, array, static_cast<int64_t>(i))) << p->name << " " << array;
      }
  }
  static std::string error_of(const std::function<void()>& action) {
    try {
      action();
    } catch (const std::exception& error) {
      return error.what();
    }
    return "";
  }

  ScratchFolder scratch_;
  const fs::path& root_ = scratch_.folder();
  ParameterInfo matrix_, vector_;
};

}  // namespace zerostep::testing
