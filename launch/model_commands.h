#pragma once
#include <CLI/CLI.hpp>
#include <functional>
#include <string>

#include "launch/commands/commands.h"

namespace zerostep {

// The commands on a model: as training would start with it, and as it was trained, with what a run sees and leaves: init, eval, generate,
// predict, inspect, export, rebuild.
class ModelCommands {
 public:
  // `run` takes what a parsed command does. The object must outlive the parsing and the command.
  ModelCommands(Job& job, CLI::App& app, std::function<void(std::function<int()>)> run);

 private:
  void add_init(CLI::App& app);
  void add_eval(CLI::App& app);
  void add_generate(CLI::App& app);
  void add_predict(CLI::App& app);
  void add_inspect(CLI::App& app);
  void add_export(CLI::App& app);
  void add_rebuild(CLI::App& app);
  // A command of rank 0 alone.
  void run_on_one_rank(CLI::App* sub, std::function<int()> command);

  Job& job_;
  std::function<void(std::function<int()>)> run_;
  InitArguments init_;
  EvalArguments eval_;
  GenerateArguments generate_;
  PredictArguments predict_;
  InspectBatchesArguments batches_;
  InspectNoiseArguments noise_;
  ConfigArguments model_;
  std::string checkpoint_;  // of inspect
  bool presets_json_ = false;
  ExportArguments export_;
  RebuildArguments rebuild_;
};

}  // namespace zerostep
