#pragma once
#include <CLI/CLI.hpp>
#include <functional>
#include <string>

#include "launch/commands/commands.h"

namespace zerostep {

// The commands on many runs, on runs that are there or under way, and on what a run would find: sweep, plot, watch, runs, doctor, probe.
class ExperimentCommands {
 public:
  // `asked`: the whole command, for what is written about it. `run` takes what a parsed command does. The object must outlive the parsing
  // and the command.
  ExperimentCommands(Job& job, CLI::App& app, const std::string& asked, std::function<void(std::function<int()>)> run);

 private:
  void add_sweep(CLI::App& app);
  void add_plot(CLI::App& app);
  void add_watch(CLI::App& app);
  void add_runs(CLI::App& app);
  void add_doctor(CLI::App& app);
  void add_probe(CLI::App& app);
  // A command of rank 0 alone.
  void run_on_one_rank(CLI::App* sub, std::function<int()> command);

  Job& job_;
  std::function<void(std::function<int()>)> run_;
  SweepArguments sweep_;
  PlotArguments plot_;
  WatchArguments watch_;
  RunsArguments list_, prune_, archive_;
  DoctorArguments doctor_;
  ProbeArguments probe_;
};

}  // namespace zerostep
