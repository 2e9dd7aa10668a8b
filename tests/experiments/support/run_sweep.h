#pragma once
#include <gtest/gtest.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "experiments/records/read_file.h"
#include "experiments/sweep/journal.h"
#include "experiments/sweep/sweep.h"
#include "runtime/report/csv_cells.h"
#include "tests/support/scratch_folder.h"

namespace zerostep::testing {

inline constexpr const char* kSweptBase = R"({"train_batch_size": 4, "seed": 3, "optimizer": {"type": "AdamW", "params": {"lr": 1e-3}},
  "model": {"family": "gpt2", "n_layer": 1, "n_embd": 32, "n_head": 2, "n_positions": 32, "vocab_size": 257},
  "data": {"train": "text.txt", "tokenizer": "byte", "sequence_length": 16}, "run": {"steps": 4}})";

// Keeps what it is told.
class Lines : public SweepScreen {
 public:
  void line(const std::string& text) override { text_ += text + "\n"; }
  void show(const std::vector<SweepRow>&, const std::vector<int64_t>&) override {}
  void finish(const std::vector<SweepRow>&, const std::vector<int64_t>&) override {}
  std::string text_;
};

// Sweeps whose program is a script, which knows $name, $folder and $steps of its run.
class RunSweep : public ::testing::Test {
 protected:
  // Points of a file with these blocks beside its base; every run's steps are 4.
  SweepRequest request(const std::string& blocks) {
    const std::string path = scratch_.path("many.json");
    std::ofstream(path) << "{\"output_dir\": \"" << scratch_.folder().string() << "\", \"base\": " << kSweptBase << ", " << blocks << "}";
    SweepRequest out;
    out.file = read_sweep_file(path);
    out.points = points_of(out.file, {"many.json: base", kSweptBase}, {});
    out.planned.resize(out.points.size());
    for (PlannedRun& planned : out.planned) planned.steps = 4;
    out.program = scratch_.path("program");
    out.memory_bytes = int64_t{1} << 40;
    return out;
  }
  void script(const std::string& name, const std::string& text) const {
    std::ofstream(scratch_.path(name)) << text << "\n";
    std::filesystem::permissions(scratch_.path(name), std::filesystem::perms::owner_all);
  }
  void program(const std::string& text) const {
    script("program", R"(#!/bin/bash
steps=4
while (($#)); do
  case $1 in
    run.name=*) name=${1#run.name=}; name=${name//\"/} ;;
    run.output_dir=*) sweep=${1#run.output_dir=}; sweep=${sweep//\"/} ;;
    --stop-after) steps=$2; shift ;;
  esac
  shift
done
folder=$sweep/$name
# Its loss is $loss at every step.
train() {
  echo step,loss >"$folder/metrics.csv"
  for ((step = 0; step < steps; ++step)); do echo "$step,$loss" >>"$folder/metrics.csv"; done
  if ((steps == 4)); then echo "4 steps done in 1 s"; else echo "stopped by --stop-after after $steps of 4 steps"; fi >"$folder/log.txt"
}
)" + text);
  }
  // A run that has left so many rows.
  void make(const std::string& run, int rows, double loss, const std::string& log) const {
    const std::filesystem::path folder = scratch_.folder() / "many" / run;
    std::filesystem::create_directories(folder);
    std::ofstream(folder / "log.txt") << log;
    std::ofstream metrics(folder / "metrics.csv");
    metrics << "step,loss\n";
    for (int i = 0; i < rows; ++i) metrics << i << "," << loss << "\n";
  }
  // runs.csv: cells by run and column.
  std::map<std::string, std::map<std::string, std::string>> rows() const {
    std::istringstream lines(read_file(scratch_.folder() / "many/runs.csv"));
    std::map<std::string, std::map<std::string, std::string>> out;
    std::string line;
    std::getline(lines, line);
    const std::vector<std::string> names = csv_cells(line);
    while (std::getline(lines, line)) {
      const std::vector<std::string> cells = csv_cells(line);
      for (size_t i = 0; i < names.size(); ++i) out[cells.at(0)][names[i]] = cells.at(i);
    }
    return out;
  }
  std::map<std::string, FormerRun> journal() const { return Journal::read(scratch_.folder() / "many" / Journal::kFile); }

  const ScratchFolder scratch_;
  Lines screen_;
};

}  // namespace zerostep::testing
