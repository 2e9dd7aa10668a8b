#pragma once
#include <CLI/CLI.hpp>
#include <functional>

#include "launch/commands/commands.h"

namespace zerostep {

// The commands on runs that are there or under way, and on what a run would find: watch, runs, doctor, probe.
class ExperimentCommands {
 public:
  // `run` takes what a parsed command does. The object must outlive the parsing and the command.
  ExperimentCommands(Job& job, CLI::App& app, std::function<void(std::function<int()>)> run);

 private:
  void add_watch(CLI::App& app);
  void add_runs(CLI::App& app);
  void add_doctor(CLI::App& app);
  void add_probe(CLI::App& app);
  // A command of rank 0 alone.
  void run_on_one_rank(CLI::App* sub, std::function<int()> command);

  Job& job_;
  std::function<void(std::function<int()>)> run_;
  WatchArguments watch_;
  RunsArguments list_, prune_, archive_;
  DoctorArguments doctor_;
  ProbeArguments probe_;
};

}  // namespace zerostep
