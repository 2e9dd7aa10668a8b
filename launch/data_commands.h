#pragma once
#include <CLI/CLI.hpp>
#include <functional>

#include "launch/commands/commands.h"

namespace zerostep {

// The commands on data sets: data list, show, merge, check, fetch.
class DataCommands {
 public:
  // `run` takes what a parsed command does. The object must outlive the parsing and the command.
  DataCommands(Job& job, CLI::App& app, std::function<void(std::function<int()>)> run);

 private:
  void add_list(CLI::App* data);
  void add_show(CLI::App* data);
  void add_merge(CLI::App* data);
  void add_check(CLI::App* data);
  void add_fetch(CLI::App* data);
  // A command of rank 0 alone.
  void run_on_one_rank(CLI::App* sub, std::function<int()> command);

  Job& job_;
  std::function<void(std::function<int()>)> run_;
  DataListArguments list_;
  DataShowArguments show_;
  DataMergeArguments merge_;
  DataCheckArguments check_;
  DataFetchArguments fetch_;
};

}  // namespace zerostep
