#include "launch/data_commands.h"

#include "launch/command_options.h"

namespace zerostep {

DataCommands::DataCommands(Job& job, CLI::App& app, std::function<void(std::function<int()>)> run) : job_(job), run_(std::move(run)) {
  CLI::App* data = app.add_subcommand("data", "data sets: those of the catalogue");
  data->require_subcommand(1);
  data->footer("\nExample: zerostep data list");
  add_list(data);
}

void DataCommands::run_on_one_rank(CLI::App* sub, std::function<int()> command) {
  sub->callback([this, command = std::move(command)] { run_([this, command] { return job_.speaks() ? command() : kDone; }); });
}

void DataCommands::add_list(CLI::App* data) {
  CLI::App* sub = data->add_subcommand("list", "the data sets that data.train and its like may name, and which of them are here");
  sub->add_option("--catalogue", list_.catalogue, "the file of data sets; the program's own where it is missing")
      ->type_name("DATASETS.json");
  sub->add_flag("--json", list_.json, "everything that the catalogue says, by name");
  sub->footer("\nExample: zerostep data list --json");
  run_on_one_rank(sub, [this] { return list_data_sets(list_); });
}

}  // namespace zerostep
